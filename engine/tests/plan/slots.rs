//! State: single assignment on the tape, in place in memory, shared by programs.

use super::{device, f64s};
use engine::ops::counter::Advance;
use engine::ops::elementwise::{Axpby, Mul};
use engine::ops::sgd::Sgd;
use engine::{Device, Error, HostTensor, Part, Sequence, Slot, Spec, State, Tape, Var};
use proptest::collection::vec;
use proptest::prelude::*;

fn state(values: &[[f64; 3]]) -> (State, Vec<Slot>) {
    let mut state = State::new();
    let slots: Vec<Slot> =
        (0..values.len()).map(|i| state.add(&format!("s{i}"), f64s(&[3])).unwrap()).collect();
    for (slot, value) in slots.iter().zip(values) {
        state.set(*slot, value).unwrap();
    }
    (state, slots)
}

fn twice(tape: &mut Tape, v: Var) -> Var {
    tape.one(Axpby { a: 2.0, b: 0.0 }, &[v]).unwrap()
}

fn run(tape: &Tape, state: &mut State) {
    tape.plan(&device(), &[]).unwrap().run(state, &[]).unwrap();
}

#[test]
fn a_read_after_an_assign_sees_it() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0], [0.0; 3]]);
    let mut tape = Tape::new();
    let old = tape.read(s[0]);
    let new = twice(&mut tape, old);
    tape.assign(s[0], new).unwrap();
    let seen = tape.read(s[0]);
    assert_eq!(seen, new);
    let again = twice(&mut tape, seen);
    tape.assign(s[1], again).unwrap();
    run(&tape, &mut state);
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(state.get::<f64>(s[1]).unwrap(), [4.0, 8.0, 12.0]);
}

#[test]
fn an_update_in_place_takes_no_memory() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0]]);
    let mut tape = Tape::new();
    let old = tape.read(s[0]);
    let new = twice(&mut tape, old);
    tape.assign(s[0], new).unwrap();
    let mut plan = tape.plan(&device(), &[]).unwrap();
    assert_eq!(plan.bytes(), 0);
    assert!(plan.to_string().contains("0 copies"), "{plan}");
    plan.run(&mut state, &[]).unwrap();
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [2.0, 4.0, 6.0]);
}

#[test]
fn the_old_value_stays_while_it_is_still_read() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0], [0.0; 3]]);
    let mut tape = Tape::new();
    let old = tape.read(s[0]);
    let new = twice(&mut tape, old);
    tape.assign(s[0], new).unwrap();
    let product = tape.one(Mul, &[old, new]).unwrap();
    tape.assign(s[1], product).unwrap();
    run(&tape, &mut state);
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(state.get::<f64>(s[1]).unwrap(), [2.0, 8.0, 18.0]);
}

#[test]
fn slots_can_be_swapped_and_rotated() {
    let (mut state, s) = state(&[[1.0; 3], [2.0; 3], [3.0; 3]]);
    let mut tape = Tape::new();
    let (a, b) = (tape.read(s[0]), tape.read(s[1]));
    tape.assign(s[0], b).unwrap();
    tape.assign(s[1], a).unwrap();
    let mut plan = tape.plan(&device(), &[]).unwrap();
    plan.run(&mut state, &[]).unwrap();
    assert_eq!((state.get::<f64>(s[0]).unwrap()[0], state.get::<f64>(s[1]).unwrap()[0]), (2.0, 1.0));
    plan.run(&mut state, &[]).unwrap();
    assert_eq!((state.get::<f64>(s[0]).unwrap()[0], state.get::<f64>(s[1]).unwrap()[0]), (1.0, 2.0));
    let mut tape = Tape::new();
    let v: Vec<Var> = s.iter().map(|s| tape.read(*s)).collect();
    for i in 0..3 {
        tape.assign(s[i], v[(i + 1) % 3]).unwrap();
    }
    run(&tape, &mut state);
    let got: Vec<f64> = s.iter().map(|s| state.get::<f64>(*s).unwrap()[0]).collect();
    assert_eq!(got, [2.0, 3.0, 1.0]);
}

#[test]
fn one_value_may_go_to_two_slots_and_an_input_to_one() {
    let (mut state, s) = state(&[[1.0; 3], [2.0; 3], [3.0; 3]]);
    let mut tape = Tape::new();
    let x = tape.input("x", f64s(&[3]));
    let old = tape.read(s[0]);
    let new = twice(&mut tape, old);
    tape.assign(s[0], new).unwrap();
    tape.assign(s[1], new).unwrap();
    tape.assign(s[2], x).unwrap();
    let mut plan = tape.plan(&device(), &[]).unwrap();
    plan.run(&mut state, &[(x, HostTensor::F64(&[7.0, 8.0, 9.0]))]).unwrap();
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [2.0; 3]);
    assert_eq!(state.get::<f64>(s[1]).unwrap(), [2.0; 3]);
    assert_eq!(state.get::<f64>(s[2]).unwrap(), [7.0, 8.0, 9.0]);
}

#[test]
fn programs_that_share_a_state_see_each_other() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0]]);
    let mut writer = Tape::new();
    let old = writer.read(s[0]);
    let new = twice(&mut writer, old);
    writer.assign(s[0], new).unwrap();
    let mut reader = Tape::new();
    let seen = reader.read(s[0]);
    let half = reader.one(Axpby { a: 0.5, b: 0.0 }, &[seen]).unwrap();
    let mut write = writer.plan(&device(), &[]).unwrap();
    let (mut read, mut beside) =
        (reader.plan(&device(), &[half]).unwrap(), reader.plan(&device(), &[half]).unwrap());
    for round in 1..4 {
        write.run(&mut state, &[]).unwrap();
        // Readers may run at once, and leave the state alone.
        let shared = &state;
        std::thread::scope(|scope| {
            scope.spawn(|| beside.run_shared(shared, &[]).unwrap());
            read.run_shared(shared, &[]).unwrap();
        });
        let want = f64::from(1 << (round - 1));
        assert_eq!(read.read::<f64>(half).unwrap(), [want, 2.0 * want, 3.0 * want]);
        assert_eq!(beside.read::<f64>(half).unwrap(), read.read::<f64>(half).unwrap());
    }
    let refused = write.run_shared(&state, &[]).unwrap_err();
    assert!(matches!(refused, Error::Bind(_)), "{refused}");
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [8.0, 16.0, 24.0]);
}

#[test]
fn an_output_that_lives_in_a_slot_is_read_from_the_state() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0]]);
    let mut tape = Tape::new();
    let old = tape.read(s[0]);
    let new = twice(&mut tape, old);
    tape.assign(s[0], new).unwrap();
    let mut plan = tape.plan(&device(), &[new]).unwrap();
    plan.run(&mut state, &[]).unwrap();
    assert!(plan.read::<f64>(new).is_err());
    assert_eq!(state.get::<f64>(s[0]).unwrap(), [2.0, 4.0, 6.0]);
}

/// (op, first value, second value, slot)
type Choice = (u8, u16, u16, u8);

/// Records the choices and computes by hand what the slots and the last value must be.
fn interpret(tape: &mut Tape, slots: &[Slot], at: &mut [[f64; 3]], choices: &[Choice]) -> (Var, [f64; 3]) {
    let lr = tape.one(engine::ops::elementwise::Fill { spec: f64s(&[]), value: 0.5 }, &[]).unwrap();
    let mut values = vec![(tape.read(slots[0]), at[0])];
    for &(op, a, b, s) in choices {
        let (x, xv) = values[usize::from(a) % values.len()];
        let (y, yv) = values[usize::from(b) % values.len()];
        let s = usize::from(s) % slots.len();
        let both = |f: &dyn Fn(f64, f64) -> f64| core::array::from_fn(|i| f(xv[i], yv[i]));
        match op % 6 {
            0 => values.push((tape.read(slots[s]), at[s])),
            1 => {
                tape.assign(slots[s], x).unwrap();
                at[s] = xv;
            }
            2 => {
                let z = tape.one(Axpby { a: 0.5, b: -0.25 }, &[x, y]).unwrap();
                values.push((z, both(&|x, y| 0.5 * x - 0.25 * y)));
            }
            3 => values.push((tape.one(Mul, &[x, y]).unwrap(), both(&|x, y| x * y))),
            4 => {
                let z = tape.one(Axpby { a: -0.5, b: 0.0 }, &[x]).unwrap();
                values.push((z, xv.map(|x| -0.5 * x)));
            }
            _ => {
                // Two outputs, either of which may lie over an input.
                let op = Sgd::one(0.5, 0.0, false);
                let out = tape.record(op, &[x, y, x, lr]).unwrap();
                let v: [f64; 3] = both(&|x, y| 0.5 * y + x);
                let w: [f64; 3] = core::array::from_fn(|i| xv[i] - 0.5 * v[i]);
                values.extend([(out[0], w.map(|w| w)), (out[1], v)]);
                tape.assign(slots[s], out[1]).unwrap();
                at[s] = v;
            }
        }
    }
    values[values.len() - 1]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_on_slots_do_what_they_say(choices in vec(any::<Choice>(), 1..25)) {
        let start = [[0.25, -0.5, 1.0], [0.75, 0.5, -1.0], [-0.125, 0.25, 0.5]];
        let (mut state, slots) = state(&start);
        let mut at = start;
        let mut tape = Tape::new();
        let (last, want) = interpret(&mut tape, &slots, &mut at, &choices);
        // In memory of its own, so that it can be read wherever the value lives.
        let seen = tape.one(Axpby { a: 0.5, b: 0.0 }, &[last]).unwrap();
        let mut plan = tape.plan(&device(), &[seen]).unwrap();
        plan.run(&mut state, &[]).unwrap();
        for (slot, want) in slots.iter().zip(&at) {
            super::close("slot", state.get::<f64>(*slot).unwrap(), want, 1e-14);
        }
        super::close("last", plan.read::<f64>(seen).unwrap(), &want.map(|v| 0.5 * v), 1e-14);
    }
}

#[test]
fn slots_are_typed_and_named() {
    let mut state = State::new();
    let slot = state.add("weight", Spec::f32(&[2, 3])).unwrap();
    assert_eq!((state.name(slot), state.bytes()), ("weight", 24));
    assert!(state.get::<f64>(slot).is_err() && state.set(slot, &[0.0f32; 5]).is_err());
    assert!(State::new().get::<f32>(slot).is_err());
    state.get_mut::<f32>(slot).unwrap()[5] = 2.0;
    assert_eq!(state.slots().map(|(n, s)| (n, s.spec)).collect::<Vec<_>>(), [("weight", Spec::f32(&[2, 3]))]);
}

/// A program that adds its input to a slot and counts its runs, run three times as a part, then one that reads the slot.
#[test]
fn a_sequence_runs_its_parts_in_order_on_the_same_state() {
    let device = Device::cpu(1);
    let mut state = State::new();
    let (sum, count) =
        (state.add("sum", Spec::f32(&[2])).unwrap(), state.add("count", Spec::i32(&[1])).unwrap());
    let mut tape = Tape::new();
    let (x, old, n) = (tape.input("x", Spec::f32(&[2])), tape.read(sum), tape.read(count));
    let new = tape.one(Axpby { a: 1.0, b: 1.0 }, &[old, x]).unwrap();
    tape.assign(sum, new).unwrap();
    let next = tape.one(Advance { by: 1 }, &[n]).unwrap();
    tape.assign(count, next).unwrap();
    let mut add = tape.plan(&device, &[]).unwrap();
    let mut tape = Tape::new();
    let s = tape.read(sum);
    let y = tape.one(Axpby { a: 2.0, b: 0.0 }, &[s]).unwrap();
    let mut double = tape.plan(&device, &[y]).unwrap();

    let mut sequence = Sequence::default();
    let given = [(x, HostTensor::F32(&[1.0, -2.0]))];
    for round in 1..=2 {
        let mut parts = [
            Part { plan: &mut add, inputs: &given, times: 3 },
            Part { plan: &mut double, inputs: &[], times: 1 },
        ];
        sequence.run(&mut state, &mut parts).unwrap();
        double.start_readback::<f32>(y).unwrap();
        assert_eq!(state.get::<i32>(count).unwrap(), [3 * round]);
    }
    // Readbacks finish in the order in which they were started, each with the values of its run.
    let mut values = Vec::<f32>::new();
    assert!(double.finish_readback(x, &mut values).is_err());
    for want in [[6.0, -12.0], [12.0, -24.0]] {
        double.finish_readback(y, &mut values).unwrap();
        assert_eq!(values, want);
    }
    assert!(double.finish_readback(y, &mut values).is_err());
    assert!(double.start_readback::<i32>(y).is_err() && double.start_readback::<f32>(x).is_err());
    let mut parts = [Part { plan: &mut add, inputs: &[], times: 1 }];
    assert!(sequence.run(&mut state, &mut parts).unwrap_err().to_string().contains("input `x`"));
}

/// A program beside others runs, and may not touch what they change, nor they what it changes.
#[test]
fn programs_beside_each_other_must_not_share_what_one_assigns() {
    let (mut state, s) = state(&[[1.0, 2.0, 3.0], [1.0; 3], [0.0; 3]]);
    let doubled = |from: Slot, to: Slot| {
        let mut tape = Tape::new();
        let old = tape.read(from);
        let new = twice(&mut tape, old);
        tape.assign(to, new).unwrap();
        tape.plan(&device(), &[]).unwrap()
    };
    let go = |state: &mut State, side: (Slot, Slot), first: (Slot, Slot), last: (Slot, Slot)| {
        let [mut side, mut first, mut last] = [side, first, last].map(|(from, to)| doubled(from, to));
        let part = |plan| Part { plan, inputs: &[], times: 1 };
        let side = part(&mut side);
        let mut parts = [part(&mut first), part(&mut last)];
        Sequence::default().run_beside(state, Some(side), &mut parts)
    };
    // The last program may take what the one beside the others has made.
    go(&mut state, (s[0], s[1]), (s[0], s[2]), (s[1], s[1])).unwrap();
    assert_eq!(state.get::<f64>(s[1]).unwrap(), [4.0, 8.0, 12.0]);
    assert_eq!(state.get::<f64>(s[2]).unwrap(), [2.0, 4.0, 6.0]);
    for (side, first) in
        [((s[0], s[1]), (s[1], s[2])), ((s[1], s[2]), (s[0], s[1])), ((s[0], s[1]), (s[0], s[1]))]
    {
        match go(&mut state, side, first, (s[1], s[1])) {
            Err(Error::Bind(why)) => assert!(why.contains("beside each other"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
