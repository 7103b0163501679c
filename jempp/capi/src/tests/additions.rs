//! The functions of version 1.1: long calls with progress, features, gradients, evaluation, thresholds, training runs.

use super::*;
use core::ffi::{c_int, c_void};

use crate::status::{
    JEMPP_ERR_CANCELLED as CANCELLED, JEMPP_ERR_FORMAT as FORMAT, JEMPP_ERR_INVALID_ARGUMENT as ARGUMENT,
};

/// Images of one value each, and classes in turn.
fn images(n: usize) -> (Vec<f32>, Vec<i32>) {
    let x = (0..n * PIXELS).map(|i| ((i * 37 + i / PIXELS * 11) % 201) as f32 / 100.0 - 1.0);
    (x.collect(), (0..n).map(|i| (i % 10) as i32).collect())
}

/// Counts calls in `user`, and cancels at the second.
extern "C" fn stop_at_second(done: u32, total: u32, user: *mut c_void) -> c_int {
    assert!(done <= total);
    // SAFETY: the test passes a number.
    let calls = unsafe { &mut *user.cast::<u32>() };
    *calls += 1;
    c_int::from(*calls < 2)
}

#[test]
fn scores_are_those_of_the_short_functions_and_can_be_cancelled() {
    let (model, (x, _)) = (model(), images(130));
    let (mut z, mut f) = (vec![0f32; 1300], vec![0f32; 130]);
    let (mut want_z, mut want_f) = (z.clone(), f.clone());
    // SAFETY: pointers have the stated numbers of elements.
    unsafe {
        well(jempp_logits(model.0, x.as_ptr(), 130, want_z.as_mut_ptr(), 1300));
        well(jempp_log_density(model.0, x.as_ptr(), 130, want_f.as_mut_ptr(), 130));
        let (zp, fp) = (z.as_mut_ptr(), f.as_mut_ptr());
        well(jempp_scores(model.0, x.as_ptr(), 130, zp, 1300, fp, 130, None, null_mut()));
        assert!(z == want_z && f == want_f);
        f.fill(7.0);
        well(jempp_scores(model.0, x.as_ptr(), 130, null_mut(), 0, f.as_mut_ptr(), 130, None, null_mut()));
        assert!(f == want_f);
        well(jempp_scores(model.0, null(), 0, null_mut(), 0, null_mut(), 0, None, null_mut()));
        let refuse = |z: *mut f32, zn, f: *mut f32, n_f, said| {
            let got = jempp_scores(model.0, x.as_ptr(), 130, z, zn, f, n_f, None, null_mut());
            refused(got, ARGUMENT, said);
        };
        refuse(z.as_mut_ptr(), 1299, null_mut(), 0, "logits has room for 1299 elements, not the 1300 needed");
        refuse(z.as_mut_ptr(), 0, null_mut(), 0, "logits has room for 0");
        refuse(null_mut(), 0, null_mut(), 130, "log_density is NULL");
        z.fill(7.0);
        let mut calls = 0u32;
        let user = (&raw mut calls).cast();
        let zp = z.as_mut_ptr();
        let got = jempp_scores(model.0, x.as_ptr(), 130, zp, 1300, null_mut(), 0, Some(stop_at_second), user);
        refused(got, CANCELLED, "stopped");
        assert!(calls == 2 && z.iter().all(|v| *v == 7.0));
    }
}

#[test]
fn features_and_gradients_of_the_logits() {
    let (model, (x, y)) = (model(), images(3));
    let mut count = 0;
    let (mut g, mut want) = (vec![0f32; 3 * PIXELS], vec![0f32; 3 * PIXELS]);
    let mut u = [0f32; 30];
    (0..3).for_each(|i| u[10 * i + y[i] as usize] = 1.0);
    // SAFETY: pointers have the stated numbers of elements.
    unsafe {
        well(jempp_feature_count(model.0, &raw mut count));
        let n = count as usize;
        assert_eq!(n, 64);
        let mut f = vec![f32::NAN; 3 * n];
        well(jempp_features(model.0, x.as_ptr(), 3, f.as_mut_ptr(), 3 * n));
        assert!(f.iter().all(|v| v.is_finite()) && f.iter().any(|v| *v != 0.0));
        refused(jempp_features(model.0, x.as_ptr(), 3, f.as_mut_ptr(), n), ARGUMENT, "out has room for 64");
        refused(jempp_feature_count(model.0, null_mut()), ARGUMENT, "out is NULL");
        refused(jempp_feature_count(null(), &raw mut count), ARGUMENT, "the jempp_model is NULL");

        let (up, gp) = (u.as_ptr(), g.as_mut_ptr());
        well(jempp_logits_vjp(model.0, x.as_ptr(), 3, up, 30, gp, g.len()));
        well(jempp_input_grad(model.0, x.as_ptr(), 3, y.as_ptr(), want.as_mut_ptr(), want.len()));
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(g.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
        refused(jempp_logits_vjp(model.0, x.as_ptr(), 3, up, 29, gp, g.len()), ARGUMENT, "upstream has 29");
        refused(
            jempp_logits_vjp(model.0, x.as_ptr(), 3, null(), 30, gp, g.len()),
            ARGUMENT,
            "upstream is NULL",
        );
        u[4] = f32::NAN;
        let got = jempp_logits_vjp(model.0, x.as_ptr(), 3, u.as_ptr(), 30, gp, g.len());
        refused(got, ARGUMENT, "upstream holds NaN at value 4");
    }
}

#[test]
fn evaluation_and_thresholds() {
    let (model, (x, mut y)) = (model(), images(100));
    // SAFETY: zeros are a struct of size 0.
    let mut e: jempp_evaluation = unsafe { core::mem::zeroed() };
    let mut made: *mut jempp_model = null_mut();
    // SAFETY: pointers have the stated numbers of elements.
    unsafe {
        let evaluate = |y: &[i32], n, e: *mut jempp_evaluation| {
            jempp_evaluate(model.0, x.as_ptr(), y.as_ptr(), n, 0, None, null_mut(), e)
        };
        refused(evaluate(&y, 100, &raw mut e), ARGUMENT, "struct_size is 0");
        refused(evaluate(&y, 100, null_mut()), ARGUMENT, "out is NULL");
        e.struct_size = size_of_val(&e) as u32;
        refused(evaluate(&y, 0, &raw mut e), ARGUMENT, "n is 0");
        well(evaluate(&y, 100, &raw mut e));
        assert!((0.0..=1.0).contains(&e.accuracy) && (0.0..=1.0).contains(&e.ece) && e.nll > 0.0);
        let fit = |y: &[i32], alpha, ood, made: *mut *mut jempp_model| {
            jempp_fit_thresholds(model.0, x.as_ptr(), y.as_ptr(), 100, alpha, ood, None, null_mut(), made)
        };
        refused(fit(&y, 0.01, -1.0, &raw mut made), ARGUMENT, "too few");
        refused(fit(&y, 0.2, 1.0, &raw mut made), ARGUMENT, "must lie between 0 and 1");
        refused(fit(&y, f64::NAN, -1.0, &raw mut made), ARGUMENT, "must lie between 0 and 1");
        refused(fit(&y, 0.2, 0.1, null_mut()), ARGUMENT, "out is NULL");
        assert!(made.is_null());
        well(fit(&y, 0.2, -1.0, &raw mut made));
        let fitted = Owned(made, jempp_model_free);
        let size = size_of::<jempp_decision>() as u32;
        let mut d: jempp_decision = core::mem::zeroed();
        d.struct_size = size;
        refused(jempp_decide(model.0, x.as_ptr(), 1, &raw mut d, 1), FORMAT, "no thresholds");
        well(jempp_decide(fitted.0, x.as_ptr(), 1, &raw mut d, 1));
        assert!((0.0..=1.0).contains(&d.ood_p_value));
        assert_eq!(logits(fitted.0), logits(model.0));
        y[3] = 10;
        refused(evaluate(&y, 100, &raw mut e), ARGUMENT, "label 10 of image 3 is not a class from 0 to 9");
        refused(fit(&y, 0.2, -1.0, &raw mut made), ARGUMENT, "label 10 of image 3");
    }
}

/// Counts steps in `user`, and ends the run at the third.
extern "C" fn stop_at_third(m: *const jempp_step_metrics, steps: u64, user: *mut c_void) -> c_int {
    // SAFETY: metrics are valid during the call; the test passes a number.
    let (m, last) = unsafe { (&*m, &mut *user.cast::<u64>()) };
    assert!(m.step == *last + 1 && m.step <= steps && m.loss.is_finite());
    *last = m.step;
    c_int::from(m.step != 3)
}

#[test]
fn a_run_is_trained_stopped_resumed_and_loaded() {
    let (context, dir) = (context(), tempfile::tempdir().unwrap());
    let (out, mut last) = (dir.path().join("run"), 0u64);
    let config = c(&format!("{CONFIG}[train.unknown]\n"));
    let good = c("preset = \"digits\"\n[train]\nepochs = 1\nbatch_size = 128\n[sampler]\nouter_steps = 1\n");
    let user = (&raw mut last).cast();
    // SAFETY: NUL-terminated strings, and a number for the callback.
    unsafe {
        let train = |config: *const c_char, dir: &Path| {
            jempp_train(context.0, config, c_path(dir).as_ptr(), Some(stop_at_third), user)
        };
        refused(train(config.as_ptr(), &out), ARGUMENT, "unknown");
        refused(train(c("data.dataset = \"nowhere\"").as_ptr(), &out), ARGUMENT, "nowhere");
        assert!(!out.exists());
        refused(train(null(), &out), ARGUMENT, "checkpoint");
        refused(jempp_train(context.0, good.as_ptr(), null(), None, null_mut()), ARGUMENT, "dir is NULL");
        refused(train(good.as_ptr(), dir.path()), ARGUMENT, "exists");
        refused(train(good.as_ptr(), &out), CANCELLED, "stopped");
        // The step after the one whose callback ended the run had begun.
        assert_eq!(last, 4);
        well(train(null(), &out));
        assert_eq!(last, 11);
        let mut made = null_mut();
        well(jempp_model_load(context.0, c_path(&out).as_ptr(), &raw mut made));
        let model = Owned(made, jempp_model_free);
        well(logits(model.0).0);
        refused(train(null(), &out), ARGUMENT, "");
    }
}
