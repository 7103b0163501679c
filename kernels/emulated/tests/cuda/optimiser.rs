//! SGD and Adam.

use emulated::{Arg, Buffer};
use half::bf16;

use crate::random::cpu;
use crate::{Data, Element, Way, assert_same, blocks, every_way, floats, random, skipped, with_extremes};

fn sgd_on<E: Element>(way: Way, w: &[f32], v: &[f32], g: &Data<E>, place: bool, low: bool) -> Vec<Vec<f32>> {
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
    way.go(&format!("sgd_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
    vec![w_out.read(), v_out.read(), floats(&copy)]
}

fn check_sgd<E: Element>(n: usize, place: bool, low: bool) {
    let (w, v) = (random(n, 1.0, 31), with_extremes(random(n, 1.0, 32)));
    let g = Data::<E>::new(&random(n, 1.0, 33));
    let got = every_way(|way| sgd_on(way, &w, &v, &g, place, low));
    let (mut new_w, mut new_v) = (vec![0.0f32; n], vec![0.0; n]);
    let decay = f64::from(4e-4f32);
    kernels::sgd::cpu(
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

/// The constants of Adam, as the kernel takes them.
struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f32,
    decay: f32,
    lr: f32,
    /// Steps done before.
    done: i32,
}

/// By repeated squaring, lowest bit first.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= base;
        }
        base *= base;
        exponent /= 2;
    }
    result
}

/// d = g + λ·w; m ← β₁·m + (1 − β₁)·d; v ← β₂·v + (1 − β₂)·d²; w ← w − lr/(1 − β₁ᵗ)·m / (√v/√(1 − β₂ᵗ) + ε).
fn adam(a: &Adam, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
    let t = a.done as u32 + 1;
    let rate = (f64::from(a.lr) / (1.0 - power(a.beta1, t))) as f32;
    let root = (1.0 - power(a.beta2, t)).sqrt() as f32;
    let (b1, b2, c1, c2) = (a.beta1 as f32, a.beta2 as f32, (1.0 - a.beta1) as f32, (1.0 - a.beta2) as f32);
    for i in 0..w.len() {
        let d = g[i] + a.decay * w[i];
        m[i] = b1 * m[i] + c1 * d;
        v[i] = b2 * v[i] + c2 * (d * d);
        w[i] -= rate * m[i] / (v[i].sqrt() / root + a.eps);
    }
}

fn check_adam<E: Element>(n: usize, a: &Adam, place: bool) {
    let (w, m) = (random(n, 1.0, 34), random(n, 1.0, 35));
    let v: Vec<f32> = random(n, 1.0, 36).iter().map(|v| v.abs()).collect();
    let g = Data::<E>::new(&with_extremes(random(n, 1.0, 37)));
    let got = every_way(|way| {
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
            Arg::F64(a.beta1),
            Arg::F64(a.beta2),
            Arg::F32(a.eps),
            Arg::F32(a.decay),
            w_out.arg(),
            m_out.arg(),
            v_out.arg(),
            if place { copy.arg() } else { Arg::Null },
        ];
        way.go(&format!("adam_{}", E::S), [blocks(n / 4), 1, 1], 256, &args);
        vec![w_out.read(), m_out.read(), v_out.read(), floats(&copy)]
    });
    let (mut w, mut m, mut v) = (w, m, v);
    adam(a, &mut w, &mut m, &mut v, &g.f32);
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
        let a = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 5e-4, lr: 1e-3, done };
        check_adam::<f32>(n, &a, false);
        check_adam::<bf16>(n, &a, true);
    }
}

/// Three steps of `torch.optim.Adam` (float64) on one weight, worked out by hand: with g constant and no decay the
/// corrected moments are g and g², so each step is lr·sign(g), to the size of ε.
#[test]
fn a_constant_gradient_moves_by_the_learning_rate() {
    let (mut w, mut m, mut v) = ([1.0f32], [0.0], [0.0]);
    for done in 0..3 {
        let a = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.0, lr: 0.01, done };
        adam(&a, &mut w, &mut m, &mut v, &[-0.3]);
    }
    assert!((w[0] - 1.03).abs() < 1e-5, "{w:?}");
}
