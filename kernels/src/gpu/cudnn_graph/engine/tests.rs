use super::*;

#[test]
fn an_engine_survives_its_text() {
    for text in ["engine 0", "engine 62, knobs 2=5", "engine 7, knobs 2=-1 26=4 41=1048576"] {
        assert_eq!(text.parse::<Engine>().map(|engine| engine.to_string()), Ok(text.to_owned()));
    }
    for text in ["", "1 FMA", "engine x", "engine 1, knobs ", "engine 1, knobs 2", "engine 1, knobs a=1"] {
        assert_eq!(text.parse::<Engine>(), Err(()), "{text}");
    }
}

#[test]
fn notes_decide_by_precision() {
    const TENSOR_CORE: i32 = 0;
    const DOWN_CONVERT: i32 = 1;
    const REDUCED: i32 = 2;
    const FFT: i32 = 3;
    const VARYING: i32 = 4;
    const WINOGRAD: i32 = 5;
    const STRICT_NAN: i32 = 9;
    let every = [Precision::F32, Precision::Tf32, Precision::Bf16];
    for precision in every {
        assert!(allowed(&[], precision) && allowed(&[STRICT_NAN], precision));
        for note in [REDUCED, FFT, VARYING] {
            assert!(!allowed(&[note], precision) && !allowed(&[TENSOR_CORE, note], precision));
        }
    }
    let taken = |note: i32| every.map(|precision| allowed(&[note], precision));
    assert_eq!(taken(TENSOR_CORE), [false, true, true]);
    assert_eq!(taken(DOWN_CONVERT), [false, true, true]);
    assert_eq!(taken(WINOGRAD), [false, true, false]);
}
