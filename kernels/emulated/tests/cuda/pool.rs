//! Pooling and concatenation, bit for bit as their CPU counterparts.

use emulated::{Arg, Buffer};
use kernels::ops::concat::{Frame, Inside};
use kernels::ops::windows::Windows;
use kernels::ops::{avg_pool2d, concat, max_pool2d};

use crate::random::cpu;
use crate::{assert_same, blocks, every_schedule, random, skipped, with_extremes};

const WINDOWS: [Windows; 4] = [
    Windows { n: 2, h: 5, w: 6, c: 3, size: 3, stride: 1, pad: 1 },
    Windows { n: 3, h: 9, w: 7, c: 37, size: 3, stride: 2, pad: 0 },
    Windows { n: 1, h: 7, w: 5, c: 16, size: 2, stride: 3, pad: 1 },
    Windows { n: 1, h: 1, w: 1, c: 1, size: 1, stride: 1, pad: 0 },
];

fn sizes(v: &Windows) -> Vec<Arg<'static>> {
    let sizes = [v.h, v.w, v.c, v.size, v.stride, v.pad, v.oh(), v.ow()];
    std::iter::once(Arg::I64(v.n as i64)).chain(sizes.map(|n| Arg::I32(n as i32))).collect()
}

#[test]
fn means_of_windows_are_their_twins() {
    if skipped() {
        return;
    }
    for (v, pads) in WINDOWS.iter().flat_map(|v| [(v, false), (v, true)]) {
        let (x, dy) = (with_extremes(random(v.x_len(), 1.0, 61)), random(v.y_len(), 1.0, 62));
        let got = every_schedule(|schedule| {
            let (from, up) = (Buffer::from(&x), Buffer::from(&dy));
            let (y, dx) = (Buffer::<f32>::unwritten(v.y_len()), Buffer::<f32>::unwritten(v.x_len()));
            let mut args = vec![from.arg()];
            args.extend(sizes(v));
            args.extend([Arg::I32(i32::from(pads)), y.arg()]);
            schedule.go("avg_pool2d", [blocks(v.y_len()), 1, 1], 256, &args);
            let mut args = vec![up.arg()];
            args.extend(sizes(v));
            args.extend([Arg::I32(i32::from(pads)), dx.arg()]);
            schedule.go("avg_pool2d_grad", [blocks(v.x_len()), 1, 1], 256, &args);
            vec![y.read(), dx.read()]
        });
        let (mut y, mut dx) = (vec![0.0; v.y_len()], vec![0.0; v.x_len()]);
        avg_pool2d::cpu(&cpu(), v, pads, &x, &mut y);
        avg_pool2d::grad_cpu(&cpu(), v, pads, &dy, &mut dx);
        assert_same("avg_pool2d", &got[0], &y);
        assert_same("avg_pool2d_grad", &got[1], &dx);
    }
}

#[test]
fn largest_values_of_windows_are_their_twins() {
    if skipped() {
        return;
    }
    for v in &WINDOWS {
        // Rounded, so that many are equal.
        let x: Vec<f32> = random(v.x_len(), 2.0, 63).iter().map(|x| x.round()).collect();
        let (x, dy) = (with_extremes(x), random(v.y_len(), 1.0, 64));
        let got = every_schedule(|schedule| {
            let (from, up) = (Buffer::from(&x), Buffer::from(&dy));
            let (y, dx) = (Buffer::<f32>::unwritten(v.y_len()), Buffer::<f32>::unwritten(v.x_len()));
            let mut args = vec![from.arg()];
            args.extend(sizes(v));
            args.push(y.arg());
            schedule.go("max_pool2d", [blocks(v.y_len()), 1, 1], 256, &args);
            let mut args = vec![from.arg(), up.arg()];
            args.extend(sizes(v));
            args.push(dx.arg());
            schedule.go("max_pool2d_grad", [blocks(v.x_len()), 1, 1], 256, &args);
            vec![y.read(), dx.read()]
        });
        let (mut y, mut dx) = (vec![0.0; v.y_len()], vec![0.0; v.x_len()]);
        max_pool2d::cpu(&cpu(), v, &x, &mut y);
        max_pool2d::grad_cpu(&cpu(), v, &x, &dy, &mut dx);
        assert_same("max_pool2d", &got[0], &y);
        assert_same("max_pool2d_grad", &got[1], &dx);
    }
}

#[test]
fn copies_into_and_out_of_frames_are_their_twins() {
    if skipped() {
        return;
    }
    let frames = [
        Frame::default(),
        Frame { columns: 3, ..Frame::default() },
        Frame { rows: 1, columns: 2, before: 3, after: 2 },
    ];
    for frame in frames {
        let v = Inside { n: 2, h: 3, w: 5, c: 7, frame };
        let zeros = [frame.before.min(2), frame.after];
        let (x, old) = (with_extremes(random(v.inner_len(), 1.0, 65)), random(v.outer_len(), 1.0, 66));
        let around = [v.h, v.w, v.c, frame.rows, frame.columns, frame.before, frame.after];
        let got = every_schedule(|schedule| {
            let (from, y, back) = (Buffer::from(&x), Buffer::from(&old), Buffer::<f32>::unwritten(x.len()));
            let sizes = || std::iter::once(Arg::I64(v.n as i64)).chain(around.map(|n| Arg::I32(n as i32)));
            let mut args = vec![from.arg()];
            args.extend(sizes());
            args.extend([Arg::I32(zeros[0] as i32), Arg::I32(zeros[1] as i32), y.arg()]);
            schedule.go("concat_place", [blocks(v.outer_len()), 1, 1], 256, &args);
            let mut args = vec![y.arg()];
            args.extend(sizes());
            args.push(back.arg());
            schedule.go("concat_cut", [blocks(v.inner_len()), 1, 1], 256, &args);
            vec![y.read(), back.read()]
        });
        let (mut y, mut back) = (old, vec![0.0; x.len()]);
        concat::place(&cpu(), &v, zeros, &x, &mut y);
        concat::cut(&cpu(), &v, &y, &mut back);
        assert_same("concat_place", &got[0], &y);
        assert_same("concat_cut", &got[1], &back);
        assert_same("there and back", &back, &x);
    }
}
