use super::*;
use std::sync::Mutex;

#[test]
fn there_is_one_value_of_each_type() {
    let attachments = Attachments::default();
    *attachments.get::<Mutex<u8>>().lock().unwrap() = 7;
    *attachments.get::<Mutex<String>>().lock().unwrap() = "seven".to_owned();
    assert_eq!(*attachments.get::<Mutex<u8>>().lock().unwrap(), 7);
    assert_eq!(*attachments.get::<Mutex<String>>().lock().unwrap(), "seven");
    assert!(std::ptr::eq(attachments.get::<Mutex<u8>>(), attachments.get::<Mutex<u8>>()));
}
