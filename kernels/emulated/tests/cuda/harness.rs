//! The emulation itself: it computes what CUDA would, and detects the faults that it is meant to detect.

use emulated::{Arg, Buffer, Order, kernels, launch};

use crate::{random, skipped};

const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Random(3)];

fn one_block(name: &str, threads: u32, order: Order, args: &[Arg<'_>]) -> Result<(), String> {
    launch(name, [1, 1, 1], [threads, 1, 1], 0, order, args)
}

#[test]
fn a_missing_barrier_shows() {
    if skipped() {
        return;
    }
    let x = Buffer::from(&random(128, 1.0, 1));
    let sums = |name: &str| {
        ORDERS.map(|order| {
            let out = Buffer::<f32>::unwritten(2);
            launch(name, [2, 1, 1], [64, 1, 1], 0, order, &[x.arg(), out.arg()]).unwrap();
            out.read()
        })
    };
    let [a, b, c] = sums("sound_sum");
    assert!(a == b && b == c);
    let [a, b, c] = sums("sum_without_barrier");
    assert!(a != b || b != c, "the missing barrier was not found");
    println!("without its barriers the sum is {a:?}, {b:?}, {c:?} by order");
}

#[test]
fn waits_that_cannot_end_are_errors() {
    if skipped() {
        return;
    }
    let out = Buffer::<f32>::unwritten(64);
    for order in ORDERS {
        for (name, what) in [
            ("divergent_barrier", "cannot end: 32 threads at a barrier"),
            ("divergent_shuffle", "while other lanes wait in"),
            ("lost_lane", "31 in __shfl_xor_sync, 1 have ended"),
        ] {
            let threads = if name == "divergent_barrier" { 64 } else { 32 };
            let why = one_block(name, threads, order, &[out.arg()]).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
    // A block that is not a whole number of warps cannot shuffle.
    let why = one_block("divergent_shuffle", 20, Order::Ascending, &[out.arg()]).unwrap_err();
    assert!(why.contains("while other lanes") || why.contains("cannot end"), "{why}");
}

#[test]
fn wrong_addresses_are_errors() {
    if skipped() {
        return;
    }
    let x = Buffer::from(&[0.0f32; 8]);
    let out = Buffer::<f32>::unwritten(4);
    let why = one_block("misaligned", 1, Order::Ascending, &[x.arg(), out.arg()]).unwrap_err();
    assert!(why.contains("16 bytes"), "{why}");
    let x = Buffer::from(&random(128, 1.0, 1));
    let short = Buffer::<f32>::unwritten(1);
    let why =
        launch("sound_sum", [2, 1, 1], [64, 1, 1], 0, Order::Ascending, &[x.arg(), short.arg()]).unwrap_err();
    assert!(why.contains("outside of argument 1"), "{why}");
}

#[test]
fn arguments_are_checked() {
    if skipped() {
        return;
    }
    let x = Buffer::from(&[0.0f32; 8]);
    let wrong = |name: &str, args: &[Arg<'_>]| one_block(name, 32, Order::Ascending, args).unwrap_err();
    assert!(wrong("nothing", &[]).contains("no kernel nothing"));
    assert!(wrong("lost_lane", &[]).contains("[8]"));
    assert!(wrong("lost_lane", &[Arg::I32(1)]).contains("not [4]"));
    assert!(launch("lost_lane", [1, 1, 1], [2048, 1, 1], 0, Order::Ascending, &[x.arg()]).is_err());
}

#[test]
fn every_call_does_what_cuda_says() {
    if skipped() {
        return;
    }
    for order in ORDERS {
        let out = Buffer::<i32>::unwritten(32);
        launch("everything", [1, 1, 1], [32, 1, 1], 128, order, &[out.arg()]).unwrap();
        let want: Vec<i32> = (0..32)
            .map(|lane: i32| {
                let mirrored = (31 - lane) * (31 - lane);
                let down = if lane == 31 { 31 } else { lane + 1 };
                let up = if lane < 2 { lane } else { lane - 2 };
                mirrored + 1000 * down + 100_000 * up + 10_000_000 + 11 + 15 + 1 + 1
            })
            .collect();
        assert_eq!(out.read(), want);
    }
}

#[test]
fn no_kernel_adds_floats_atomically_and_each_is_known() {
    if skipped() {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../cuda");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("atomicAdd") && !text.contains("INFINITY"), "{}", path.display());
        if path.extension().is_some_and(|e| e == "cu") {
            let op = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(kernels().iter().any(|(s, _)| *s == op), "no kernel of {op} was found");
            assert!(text.contains("// Launch:"), "{op} does not say how it is launched");
            files += 1;
        }
    }
    println!("{} kernels in {files} files", kernels().len());
}
