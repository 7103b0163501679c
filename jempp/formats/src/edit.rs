//! Edit distance, for suggestions in error messages.

/// The edit distance in characters, with insertions, deletions, substitutions and transpositions of neighbours (optimal
/// string alignment).
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

/// The name among `known` that `given` most likely means, if one is near: at most a third of its characters differ.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|k| (distance(given, k), k)).min_by_key(|(cost, _)| *cost);
    best.filter(|(cost, _)| *cost <= 1.max(given.chars().count() / 3)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("lr", "", 2), ("lrr", "lr", 1), ("trian", "train", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn near_names() {
        let known = ["jempp", "digits", "jem", "softmax"];
        for (given, meant) in
            [("jemp", Some("jempp")), ("softmx", Some("softmax")), ("resnet", None), ("", None)]
        {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
    }
}
