use super::*;

#[test]
fn mappings_are_read() {
    let maps = "55e0-55f0 r-xp 00000000 fe:00 12 /usr/bin/a\n7f00-7f10 r--p 0 0:0 0 \n\
                7f10-7f20 r-xp 00001000 fe:00 13                /opt/with space/libx.so.1\n";
    assert_eq!(mapped_file(maps, 0x7f10), Some(PathBuf::from("/opt/with space/libx.so.1")));
    assert_eq!(mapped_file(maps, 0x7f05), None);
    assert_eq!(mapped_file(maps, 0x7f20), None);
}

#[test]
fn a_missing_library_is_an_error() {
    assert!(Handle::open("libjempp-absent.so.1").is_err());
}

#[test]
fn symbols_of_the_c_library_are_found() {
    let Ok(c) = Handle::open("libc.so.6") else {
        println!("skipped: no libc.so.6 here");
        return;
    };
    assert!(c.address("strlen").is_some());
    assert!(c.address("jempp_no_such_symbol").is_none());
    assert!(c.file_of("strlen").is_some_and(|path| path.ends_with("libc.so.6")));
}
