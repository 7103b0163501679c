use super::*;

#[test]
fn an_answer_survives_its_text() {
    for text in ["engine 62, knobs 2=5 26=4; 0.000123000 s", "engine 1; 1.500000000 s", "engine 0"] {
        assert_eq!(Answer::parse(text).map(|answer| answer.text()).as_deref(), Some(text));
    }
    for text in ["IMPLICIT_GEMM FMA", "engine 1; fast", "engine 1; x s", ""] {
        assert!(Answer::parse(text).is_none(), "{text}");
    }
}
