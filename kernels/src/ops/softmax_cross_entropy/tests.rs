use super::*;

#[test]
fn large_logits_keep_the_digits_of_the_loss() {
    let mut loss = [0.0f32; 2];
    cpu(2, &[3e6, 3e6, -1e7, -1e7 + 1.0], &[0, 1], &mut loss);
    assert_eq!(loss, [core::f32::consts::LN_2, (1.0f32 + (-1.0f32).exp()).ln()]);
    cpu(2, &[0.0, 1.0, 2.0, 3.0], &[2, -1], &mut loss);
    assert!(loss.iter().all(|v| v.is_nan()));
}
