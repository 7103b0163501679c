//! The thin command line over `jempp`.
fn main() {}
