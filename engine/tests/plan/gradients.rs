//! Gradients: only what is needed, of interior values, of values used twice, and of gradients.

use super::{add, close, dot, eval, f64s, normals};
use engine::ops::bn_coeffs::BnCoeffs;
use engine::ops::bn_stats::BnStats;
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::elementwise::{Axpby, Mul};
use engine::ops::global_avg_pool::GlobalAvgPool;
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::linear::Linear;
use engine::ops::logsumexp::LogSumExp;
use engine::ops::reduce::SumAll;
use engine::ops::scale_shift_leaky::ScaleShiftLeaky;
use engine::{Error, Tape, Var, grad};

/// Second-order gradients against central differences of first-order ones, all in float64.
const SECOND: f64 = 2e-6;

const CONV: Conv2d = Conv2d { geometry: Geometry { stride: 1, pad: 1 }, bias: true, residual: false };

fn sum(tape: &mut Tape, x: Var) -> Var {
    tape.one(SumAll { factor: 1.0 }, &[x]).unwrap()
}

/// A small energy: convolution, rectifier, strided convolution, pool, linear layer, logsumexp.
fn energy(tape: &mut Tape, v: &[Var]) -> Var {
    let y = tape.one(CONV, &[v[0], v[1], v[2]]).unwrap();
    let y = tape.one(LeakyRelu { leak: 0.2 }, &[y]).unwrap();
    let strided = Conv2d { geometry: Geometry { stride: 2, pad: 1 }, bias: false, residual: false };
    let y = tape.one(strided, &[y, v[3]]).unwrap();
    let y = tape.one(GlobalAvgPool, &[y]).unwrap();
    let y = tape.one(Linear, &[y, v[4], v[5]]).unwrap();
    let f = tape.one(LogSumExp, &[y]).unwrap();
    sum(tape, f)
}

const ENERGY: [&[usize]; 6] = [&[2, 4, 5, 2], &[3, 3, 3, 2], &[3], &[4, 3, 3, 3], &[5, 4], &[5]];

fn inputs(tape: &mut Tape, shapes: &[&[usize]]) -> (Vec<Var>, Vec<Vec<f64>>) {
    let vars = shapes.iter().map(|s| tape.input("v", f64s(s))).collect();
    let data = shapes.iter().enumerate().map(|(i, s)| normals(s.iter().product(), 40 + i as u32)).collect();
    (vars, data)
}

fn pairs<'a>(vars: &[Var], data: &'a [Vec<f64>]) -> Vec<(Var, &'a [f64])> {
    vars.iter().copied().zip(data.iter().map(Vec::as_slice)).collect()
}

#[test]
fn a_langevin_gradient_records_no_weight_gradient() {
    let mut tape = Tape::new();
    let (v, _) = inputs(&mut tape, &ENERGY);
    let f = energy(&mut tape, &v);
    let forward = tape.len();
    let dx = grad(&mut tape, f, &[v[0]]).unwrap();
    for op in ["conv2d_weight_grad", "linear_weight_grad", "sum_rows"] {
        assert_eq!(tape.count(op), 0, "{op}");
    }
    assert_eq!((tape.count("conv2d_input_grad"), tape.count("linear_input_grad")), (2, 1));
    assert!(tape.len() <= 2 * forward + 4, "{} nodes after {forward}", tape.len());
    let plan = tape.plan(&super::device(), &dx).unwrap();
    assert_eq!(plan.count("sum_all"), 0, "the energy itself is not needed");
    // The first layer's weights alone need no gradient of the image.
    let mut tape = Tape::new();
    let (v, _) = inputs(&mut tape, &ENERGY);
    let f = energy(&mut tape, &v);
    grad(&mut tape, f, &[v[1]]).unwrap();
    assert_eq!((tape.count("conv2d_input_grad"), tape.count("conv2d_weight_grad")), (1, 1));
}

#[test]
fn a_gradient_of_an_interior_value_stops_there() {
    let mut tape = Tape::new();
    let (v, data) = inputs(&mut tape, &ENERGY[..3]);
    let h = tape.one(CONV, &v).unwrap();
    let r = tape.one(LeakyRelu { leak: 0.2 }, &[h]).unwrap();
    let y = dot(&mut tape, r, r);
    let dh = grad(&mut tape, y, &[h]).unwrap()[0];
    assert_eq!(tape.count("conv2d_input_grad") + tape.count("conv2d_weight_grad"), 0);
    // Both at once, and the outer from the inner by hand.
    let both = grad(&mut tape, y, &[v[0], h]).unwrap();
    let along = dot(&mut tape, h, dh);
    let dx = grad(&mut tape, along, &[v[0]]).unwrap()[0];
    let out = eval(&tape, &[dh, both[1], both[0], h, dx], &pairs(&v, &data));
    assert_eq!(out[0], out[1]);
    let slope = |z: f64| if z >= 0.0 { 1.0 } else { 0.04 };
    let want: Vec<f64> = out[3].iter().map(|z| 2.0 * slope(*z) * z).collect();
    close("gradient of h", &out[0], &want, 1e-14);
    // y is homogeneous of degree two in h, and ⟨h, dh⟩ = 2y: its gradient is twice that of y.
    let doubled: Vec<f64> = out[2].iter().map(|g| 2.0 * g).collect();
    close("gradient through ⟨h, dh⟩", &out[4], &doubled, 1e-12);
}

#[test]
fn values_used_twice_count_twice() {
    let mut tape = Tape::new();
    let x = tape.input("x", f64s(&[4]));
    let data = normals(4, 3);
    let square = tape.one(Mul, &[x, x]).unwrap();
    let double = add(&mut tape, x, x);
    let (a, b) = (sum(&mut tape, square), sum(&mut tape, double));
    let c = add(&mut tape, a, b);
    let da = grad(&mut tape, a, &[x]).unwrap()[0];
    let db = grad(&mut tape, b, &[x]).unwrap()[0];
    let dc = grad(&mut tape, c, &[x, x]).unwrap();
    let out = eval(&tape, &[da, db, dc[0], dc[1]], &[(x, &data)]);
    let of = |f: fn(f64) -> f64| data.iter().map(|v| f(*v)).collect::<Vec<_>>();
    assert_eq!(out[0], of(|v| 2.0 * v));
    assert_eq!(out[1], of(|_| 2.0));
    close("sum", &out[2], &of(|v| 2.0 * v + 2.0), 1e-15);
    assert_eq!(out[2], out[3]);
}

/// x is image and residual of one convolution, and has another use after it: its gradient has three parts.
#[test]
fn an_image_that_is_its_own_residual_keeps_its_other_gradients() {
    let mut tape = Tape::new();
    let shapes: [&[usize]; 2] = [&[2, 3, 4, 3], &[3, 3, 3, 3]];
    let (v, data) = inputs(&mut tape, &shapes);
    let whole = Conv2d { geometry: CONV.geometry, bias: false, residual: true };
    let alone = Conv2d { residual: false, ..whole };
    let y = tape.one(whole, &[v[0], v[1], v[0]]).unwrap();
    let conv = tape.one(alone, &[v[0], v[1]]).unwrap();
    let z = add(&mut tape, conv, v[0]);
    let grads: Vec<Vec<Var>> = [y, z]
        .into_iter()
        .map(|y| {
            let l = dot(&mut tape, y, v[0]);
            grad(&mut tape, l, &v).unwrap()
        })
        .collect();
    let out = eval(&tape, &[grads[0][0], grads[1][0], grads[0][1], grads[1][1]], &pairs(&v, &data));
    close("image", &out[0], &out[1], 1e-13);
    close("filters", &out[2], &out[3], 1e-13);
}

#[test]
fn what_the_output_does_not_depend_on_has_zero_gradient() {
    let mut tape = Tape::new();
    let (x, other) = (tape.input("x", f64s(&[3])), tape.input("other", f64s(&[2, 2])));
    let unrelated = tape.one(Mul, &[other, other]).unwrap();
    let y = sum(&mut tape, x);
    let g = grad(&mut tape, y, &[other, x, unrelated, y]).unwrap();
    let out = eval(&tape, &g, &[(x, &[1.0, 2.0, 3.0])]);
    assert_eq!(out, [vec![0.0; 4], vec![1.0; 3], vec![0.0; 4], vec![1.0]]);
}

/// Σ |∂f/∂v|² over all inputs, and its gradient, against central differences of the former.
fn second_order(what: &str, shapes: &[&[usize]], f: impl Fn(&mut Tape, &[Var]) -> Var) {
    let mut tape = Tape::new();
    let (v, data) = inputs(&mut tape, shapes);
    let y = f(&mut tape, &v);
    let first = grad(&mut tape, y, &v).unwrap();
    let squares: Vec<Var> = first.iter().map(|g| dot(&mut tape, *g, *g)).collect();
    let s = squares.into_iter().reduce(|a, b| add(&mut tape, a, b)).unwrap();
    let second = grad(&mut tape, s, &v).unwrap();
    let got = eval(&tape, &second, &pairs(&v, &data));
    for (k, got) in got.iter().enumerate() {
        let step = got.len().div_ceil(25);
        let mut want = got.clone();
        for i in (0..got.len()).step_by(step) {
            let at = |h: f64| {
                let mut moved = data.clone();
                moved[k][i] += h;
                eval(&tape, &[s], &pairs(&v, &moved))[0][0]
            };
            let h = 1e-5;
            want[i] = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        }
        close(&format!("{what}: second-order gradient of input {k}"), got, &want, SECOND);
    }
}

/// Σ y³: its gradient depends on y, so that the second order sees the op twice.
fn cube(tape: &mut Tape, y: Var) -> Var {
    let square = tape.one(Mul, &[y, y]).unwrap();
    dot(tape, square, y)
}

#[test]
fn gradients_of_gradients_agree_with_differences() {
    second_order("conv2d", &[&[2, 4, 3, 2], &[3, 3, 3, 2], &[3]], |t, v| {
        let y = t.one(CONV, v).unwrap();
        cube(t, y)
    });
    second_order("conv2d stride 2", &[&[1, 5, 4, 2], &[3, 3, 3, 2], &[3]], |t, v| {
        let y = t.one(Conv2d { geometry: Geometry { stride: 2, pad: 1 }, ..CONV }, v).unwrap();
        cube(t, y)
    });
    second_order("linear", &[&[3, 4], &[2, 4], &[2]], |t, v| {
        let y = t.one(Linear, v).unwrap();
        cube(t, y)
    });
    second_order("leaky_relu", &[&[3, 5]], |t, v| {
        let y = t.one(LeakyRelu { leak: 0.2 }, v).unwrap();
        cube(t, y)
    });
    second_order("logsumexp", &[&[4, 5]], |t, v| {
        let y = t.one(LogSumExp, v).unwrap();
        cube(t, y)
    });
    second_order("a network", &ENERGY, energy);
}

#[test]
fn batch_norm_has_no_second_order_and_says_so() {
    let mut tape = Tape::new();
    let shapes: [&[usize]; 3] = [&[2, 3, 3, 2], &[2], &[2]];
    let (v, _) = inputs(&mut tape, &shapes);
    let stats = tape.record(BnStats { groups: vec![2] }, &[v[0]]).unwrap();
    let scale = tape.one(BnCoeffs { eps: 1e-5 }, &[stats[1], v[1]]).unwrap();
    let op = ScaleShiftLeaky { groups: vec![2], leak: 0.2 };
    let y = tape.one(op, &[v[0], stats[0], scale, v[2]]).unwrap();
    let l = cube(&mut tape, y);
    let dx = grad(&mut tape, l, &[v[0]]).unwrap()[0];
    let s = dot(&mut tape, dx, dx);
    match grad(&mut tape, s, &[v[0]]) {
        Err(e @ Error::NoSecondOrder { op, .. }) => {
            assert_eq!(op, "bn_leaky_grad");
            assert!(e.to_string().contains("second-order"), "{e}");
        }
        other => panic!("{other:?}"),
    }
    // Forward ops without any gradient refuse in the same way.
    let hit = tape.one(Axpby { a: 1.0, b: 0.0 }, &[dx]).unwrap();
    let l = sum(&mut tape, hit);
    assert!(matches!(grad(&mut tape, l, &[v[1]]), Err(Error::NoSecondOrder { .. })));
}
