//! Crops, mirroring and noise, compared with the CPU's augmentation.

use emulated::{Arg, Buffer};
use half::bf16;
use kernels::ops::augment::{self, Args};

use crate::random::{OFFSET, SEED, STEP, STREAM, cpu, sequence};
use crate::{Element, assert_same, every_schedule, floats, skipped};

fn check<E: Element>(size: [usize; 3], pad: usize, flip: bool, sigma: f32) {
    let [h, w, c] = size;
    let (pixels, count) = (h * w * c, 6);
    let images: Vec<u8> = (0..count * pixels).map(|i| (i * 89 % 256) as u8).collect();
    // The last image does not exist.
    let asked = [5, 0, 3, 3, 2, count as i32];
    let n = asked.len();
    let got = every_schedule(|schedule| {
        let (images, index) = (Buffer::from(&images), Buffer::from(&asked));
        let (seed, step, out) =
            (Buffer::from(&SEED), Buffer::from(&[STEP]), Buffer::<E>::unwritten(n * pixels));
        let args = [
            images.arg(),
            Arg::I32(count as i32),
            index.arg(),
            Arg::I32(n as i32),
            Arg::I32(h as i32),
            Arg::I32(w as i32),
            Arg::I32(c as i32),
            Arg::I32(pad as i32),
            Arg::I32(flip.into()),
            Arg::F32(sigma),
            seed.arg(),
            step.arg(),
            Arg::U32(OFFSET),
            Arg::U32(STREAM),
            out.arg(),
        ];
        schedule.go(&format!("augment_{}", E::S), [pixels.div_ceil(1024) as u32, 4, 1], 256, &args);
        vec![floats(&out)]
    });
    let mut want = vec![0.0; n * pixels];
    augment::cpu(&cpu(), Args { pad, flip, sigma }, size, &images, &asked, sequence(), &mut want);
    let want: Vec<f32> = want.iter().map(|&v| E::of(v).to()).collect();
    assert_same(&format!("augment_{}", E::S), &got[0], &want);
}

#[test]
fn augmentation_is_its_twin() {
    if skipped() {
        return;
    }
    for (size, pad, flip, sigma) in [
        ([32, 32, 3], 4, true, 0.03),
        ([8, 8, 1], 1, false, 0.1),
        ([5, 7, 3], 2, true, 0.5),
        ([6, 11, 1], 5, true, 0.5),
        ([9, 29, 1], 0, true, 0.1),
        ([4, 6, 3], 1, true, 0.0),
        ([3, 3, 1], 0, false, 0.0),
    ] {
        check::<f32>(size, pad, flip, sigma);
        check::<bf16>(size, pad, flip, sigma);
    }
}
