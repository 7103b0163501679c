use super::*;

#[test]
fn chunks_of_blocks_cover_each_block_and_have_parts_of_their_own() {
    let (shape, starts) = (Grouped { groups: vec![1, 3, 1, 2], pixels: 2, c: 3 }, [0, 6, 24, 30, 42]);
    for (len, most) in [(6, 1), (12, 2), (18, 3), (30, 3), (42, 4), (60, 4)] {
        let chunks = Chunks::of_blocks(shape.clone(), len, 1);
        assert_eq!(chunks.block_part(), most);
        let mut parts: Vec<_> = chunks.chunks.iter().map(|k| k.part).collect();
        parts.dedup();
        assert_eq!(parts.len(), chunks.chunks.len());
        for (block, first) in (0..42).step_by(len).enumerate() {
            let size = len.min(42 - first);
            let mut next = 0;
            chunks.block(first, size, &mut vec![0; most], |chunk, r, _| {
                assert_eq!((r.start, chunk.part / most), (next, block));
                assert!(starts[chunk.group] <= first + r.start);
                assert!(first + r.end <= starts[chunk.group + 1]);
                next = r.end;
            });
            assert_eq!(next, size);
        }
    }
}

#[test]
fn pieces_cover_every_part_group_by_group() {
    let shape = Grouped { groups: vec![1, 3, 1, 2], pixels: 2, c: 3 };
    let starts = [0, 6, 24, 30, 42];
    for size in (3..=42).step_by(3) {
        let mut at = 0;
        while at < 42 {
            let len = size.min(42 - at);
            let mut next = at;
            shape.pieces(at, len, |g, r| {
                assert!(r.start == next && !r.is_empty() && starts[g] <= r.start && r.end <= starts[g + 1]);
                next = r.end;
            });
            assert_eq!(next, at + len);
            at += len;
        }
    }
}
