use super::*;

#[test]
fn pixels_and_windows_see_each_other() {
    for (size, stride, pad) in [(3, 1, 1), (3, 2, 0), (2, 2, 0), (2, 3, 1), (5, 2, 2), (1, 1, 0)] {
        let v = Windows { n: 1, h: 7, w: 9, c: 1, size, stride, pad };
        for o in 0..v.oh() {
            assert!(!v.seen(o, v.h).is_empty());
            let seen: Vec<usize> = (0..v.h).filter(|i| v.seers(*i, v.oh()).contains(&o)).collect();
            assert_eq!(seen, v.seen(o, v.h).collect::<Vec<_>>(), "{v:?} {o}");
        }
    }
}
