//! SGD and Adam.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::adam;

use crate::random::cpu;
use crate::{
    Data, Element, Schedule, assert_same, blocks, every_schedule, floats, random, skipped, with_extremes,
};

fn sgd_on<E: Element>(
    schedule: Schedule,
    w: &[f32],
    v: &[f32],
    g: &Data<E>,
    place: bool,
    low: bool,
) -> Vec<Vec<f32>> {
    let n = w.len();
    let (w, v, g, lr) = (Buffer::from(w), Buffer::from(v), g.buffer(), Buffer::from(&[0.1f32]));
    let (other_w, other_v) = (Buffer::<f32>::unwritten(n), Buffer::<f32>::unwritten(n));
    let (w_out, v_out) = if place { (&w, &v) } else { (&other_w, &other_v) };
    let copy = Buffer::<bf16>::unwritten(n);
    let args = [
        w.arg(),
        v.arg(),
        g.arg(),
        lr.arg(),
        Arg::I64(n as i64),
        Arg::F32(0.9),
        Arg::F32(4e-4),
        w_out.arg(),
        v_out.arg(),
        if low { copy.arg() } else { Arg::Null },
    ];
    schedule.go(&format!("sgd_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
    vec![w_out.read(), v_out.read(), floats(&copy)]
}

fn check_sgd<E: Element>(n: usize, place: bool, low: bool) {
    let (w, v) = (random(n, 1.0, 31), with_extremes(random(n, 1.0, 32)));
    let g = Data::<E>::new(&random(n, 1.0, 33));
    let got = every_schedule(|schedule| sgd_on(schedule, &w, &v, &g, place, low));
    let (mut new_w, mut new_v) = (vec![0.0f32; n], vec![0.0; n]);
    let decay = f64::from(4e-4f32);
    kernels::ops::sgd::cpu(
        &cpu(),
        f64::from(0.9f32),
        decay,
        Some(&w),
        Some(&v),
        &g.f32,
        0.1,
        &mut new_w,
        &mut new_v,
    );
    assert_same(&format!("sgd_{} w", E::S), &got[0], &new_w);
    assert_same(&format!("sgd_{} v", E::S), &got[1], &new_v);
    if low {
        let copy: Vec<f32> = new_w.iter().map(|&v| bf16::of(v).to()).collect();
        assert_same("  its bf16 copy", &got[2], &copy);
    }
}

#[test]
fn sgd_is_its_twin() {
    if skipped() {
        return;
    }
    for n in [1, 3, 1027, 4096] {
        check_sgd::<f32>(n, false, false);
        check_sgd::<f32>(n, true, true);
        check_sgd::<bf16>(n, true, false);
        check_sgd::<bf16>(n, false, true);
    }
}

/// One way to call Adam: constants that float32 holds, the learning rate and the steps done before.
struct Adam {
    args: adam::Args,
    lr: f32,
    done: i32,
}

fn check_adam<E: Element>(n: usize, a: &Adam, place: bool) {
    let (w, m) = (random(n, 1.0, 34), random(n, 1.0, 35));
    let v: Vec<f32> = random(n, 1.0, 36).iter().map(|v| v.abs()).collect();
    let g = Data::<E>::new(&with_extremes(random(n, 1.0, 37)));
    let got = every_schedule(|schedule| {
        let (w, m, v, g) = (Buffer::from(&w), Buffer::from(&m), Buffer::from(&v), g.buffer());
        let (lr, done) = (Buffer::from(&[a.lr]), Buffer::from(&[a.done]));
        let other = [0, 1, 2].map(|_| Buffer::<f32>::unwritten(n));
        let [w_out, m_out, v_out] = if place { [&w, &m, &v] } else { [&other[0], &other[1], &other[2]] };
        let copy = Buffer::<bf16>::unwritten(n);
        let args = [
            w.arg(),
            m.arg(),
            v.arg(),
            g.arg(),
            lr.arg(),
            done.arg(),
            Arg::I64(n as i64),
            Arg::F64(a.args.beta1),
            Arg::F64(a.args.beta2),
            Arg::F32(a.args.eps as f32),
            Arg::F32(a.args.decay as f32),
            w_out.arg(),
            m_out.arg(),
            v_out.arg(),
            if place { copy.arg() } else { Arg::Null },
        ];
        schedule.go(&format!("adam_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
        vec![w_out.read(), m_out.read(), v_out.read(), floats(&copy)]
    });
    let (mut w, mut m, mut v) = (w, m, v);
    adam::cpu(&cpu(), a.args, [None; 3], &g.f32, a.lr, a.done, [&mut w, &mut m, &mut v]);
    assert_same(&format!("adam_{} w", E::S), &got[0], &w);
    assert_same(&format!("adam_{} m", E::S), &got[1], &m);
    assert_same(&format!("adam_{} v", E::S), &got[2], &v);
    if place {
        let copy: Vec<f32> = w.iter().map(|&v| bf16::of(v).to()).collect();
        assert_same("  its bf16 copy", &got[3], &copy);
    }
}

#[test]
fn adam_is_its_twin() {
    if skipped() {
        return;
    }
    for (n, done) in [(1, 0), (1027, 0), (515, 9), (130, 100_000)] {
        let a =
            Adam { args: adam::Args { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 5e-4 }, lr: 1e-3, done };
        check_adam::<f32>(n, &a, false);
        check_adam::<bf16>(n, &a, true);
    }
}
