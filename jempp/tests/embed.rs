//! The example of a host program, run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

include!("../examples/embed.rs");

#[test]
fn the_example_runs() {
    main().unwrap();
}
