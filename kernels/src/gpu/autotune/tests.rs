use super::*;

#[test]
fn an_earlier_candidate_stands_unless_clearly_beaten() {
    assert_eq!(fastest(&[1.0, 0.97]), Some(0));
    assert_eq!(fastest(&[1.0, 0.90, 0.88]), Some(1));
    assert_eq!(fastest(&[]), None);
}
