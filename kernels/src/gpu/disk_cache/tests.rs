use super::*;

#[test]
fn values_are_kept_and_damage_is_found() {
    let folder = std::env::temp_dir().join(format!("jempp-store-{}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    let at = Some(folder.as_path());
    assert_eq!(get(at, b"q"), None);
    put(at, b"q", b"answer");
    assert_eq!(get(at, b"q").as_deref(), Some(&b"answer"[..]));
    assert_eq!(get(at, b"p"), None);
    let path = file(&folder, b"q");
    let good = fs::read(&path).unwrap();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert_eq!(get(at, b"q"), None, "byte {i}");
        fs::write(&path, &good[..i]).unwrap();
        assert_eq!(get(at, b"q"), None, "cut at {i}");
    }
    // A file in place of the folder: nothing is stored and nothing fails.
    put(Some(&path), b"q", b"answer");
    assert_eq!(get(Some(&path), b"q"), None);
    put(None, b"q", b"answer");
    fs::remove_dir_all(&folder).unwrap();
}
