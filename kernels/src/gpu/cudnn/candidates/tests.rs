use super::*;

#[test]
fn float32_is_neither_rounded_nor_transformed() {
    for pass in [ConvPass::Forward, ConvPass::InputGrad, ConvPass::WeightGrad] {
        let exact = candidates(pass, Precision::F32);
        let loose = candidates(pass, Precision::Tf32);
        assert!(exact.iter().all(|c| c.math == Math::CUDNN_FMA_MATH && !c.name().contains("WINO")));
        assert!(!exact.is_empty() && exact.len() < loose.len());
        for c in &loose {
            let first = loose.iter().filter(|o| o.name() == c.name()).count();
            assert_eq!(first, 1, "{} names two", c.name());
            let varying = ["BWD_DATA_ALGO_0", "BWD_FILTER_ALGO_0", "BWD_FILTER_ALGO_3", "FFT"];
            let raw = format!("{:?}", c.algorithm);
            assert!(!varying.iter().any(|v| raw.contains(v)), "{raw}");
        }
    }
    assert_eq!(candidates(ConvPass::InputGrad, Precision::F32)[0].name(), "1 FMA");
}
