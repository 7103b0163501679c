//! `jempp.h` is the header generated from the code of the C interface; `JEMPP_BLESS=1` writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

#[test]
fn the_header_is_made_of_the_code() {
    let capi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jempp/capi");
    let config = cbindgen::Config::from_file(capi.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(&capi).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    let (path, want) = (capi.join("include/jempp.h"), String::from_utf8(text).unwrap());
    if std::env::var_os("JEMPP_BLESS").is_some() {
        fs::write(&path, &want).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == want, "jempp.h differs from the code; update it with JEMPP_BLESS=1 and this test");
}
