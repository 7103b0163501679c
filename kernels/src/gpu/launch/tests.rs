use super::rows::Tiling;
use super::*;

#[test]
fn tiles_cover_every_channel() {
    for (float, c) in [Float::F32, Float::Bf16].into_iter().flat_map(|f| (1..5000).map(move |c| (f, c))) {
        let t = Tiling::of(float, c);
        let packs = if c % float.pack() == 0 { c / float.pack() } else { c };
        let width = packs.div_ceil(t.tiles);
        assert!(
            width <= BLOCK && width * t.tiles >= packs && t.rows >= 1 && t.rows * width <= BLOCK,
            "{float:?} {c}"
        );
    }
    assert_eq!(Tiling::of(Float::F32, 32), Tiling { tiles: 1, rows: 32 });
    assert_eq!(Tiling::of(Float::F32, 3), Tiling { tiles: 1, rows: 85 });
    assert_eq!(Tiling::of(Float::F32, 640), Tiling { tiles: 1, rows: 1 });
    assert_eq!(Tiling::of(Float::Bf16, 32), Tiling { tiles: 1, rows: 64 });
    assert_eq!(Tiling::of(Float::Bf16, 36), Tiling { tiles: 1, rows: 7 });
}

#[test]
fn spans_must_be_exact() {
    let span = Span { address: 4096, len: 12, life: core::marker::PhantomData };
    assert!(matches!(exact::<f32>("x", span, 3), Ok(Arg::Pointer(4096))));
    assert!(exact::<f32>("x", span, 2).is_err() && exact::<f32>("x", span, usize::MAX).is_err());
    assert!(matches!(span_of::<f32>("x", 3), Param::Span("x", 12)));
    assert!(int("x", 1 << 31).is_err());
}
