//! layer_stats.

use emulated::{Arg, Buffer};
use kernels::ops::layer_stats;

use crate::{SUM, assert_near, doubles, every_schedule, random, skipped};

#[test]
fn statistics_of_whole_layers_are_their_twins() {
    if skipped() {
        return;
    }
    for (groups, c) in [(1, 1), (3, 7), (5, 32), (2, 640), (9, 33)] {
        let n = groups * c;
        // Means far from zero: their spread is in V, and would cancel in Σm² − M².
        let mean: Vec<f32> = random(n, 1.0, 61).iter().map(|v| v + 30.0).collect();
        let var: Vec<f32> = random(n, 1.0, 62).iter().map(|v| v.abs()).collect();
        let (d_mean, d_var) = (random(n, 1.0, 63), random(n, 1.0, 64));
        let got = every_schedule(|schedule| {
            let inputs = [&mean, &var, &d_mean, &d_var].map(|v| Buffer::from(v));
            let out = [0; 4].map(|_| Buffer::<f32>::unwritten(n));
            let (g, c, grid) =
                (Arg::I64(groups as i64), Arg::I32(c as i32), [groups.div_ceil(4) as u32, 1, 1]);
            let args = [inputs[0].arg(), inputs[1].arg(), g, c, out[0].arg(), out[1].arg()];
            schedule.go("layer_stats", grid, 128, &args);
            let args = [inputs[0].arg(), inputs[2].arg(), inputs[3].arg(), g, c, out[2].arg(), out[3].arg()];
            schedule.go("layer_stats_grad", grid, 128, &args);
            out.iter().map(Buffer::read).collect()
        });
        let mut want = [0; 4].map(|_| vec![0.0f64; n]);
        let [m, v, dm, dv] = &mut want;
        layer_stats::cpu(c, &doubles(&mean), &doubles(&var), m, v);
        layer_stats::grad_cpu(c, &doubles(&mean), &doubles(&d_mean), &doubles(&d_var), dm, dv);
        for ((name, got), want) in ["mean", "var", "dmean", "dvar"].iter().zip(&got).zip(&want) {
            assert_near(&format!("layer_stats {name}"), got, want, None, SUM);
        }
    }
}
