use super::*;
use std::io::Write;

#[test]
fn a_map_is_what_is_in_the_file() {
    let path = std::env::temp_dir().join(format!("jempp-map-{}", std::process::id()));
    File::create(&path).unwrap().write_all(b"some bytes").unwrap();
    let map = Mmap::map(&File::open(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(&*map, b"some bytes");
}
