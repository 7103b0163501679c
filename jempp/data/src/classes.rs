//! Which class of a model each class of a data set is.
//!
//! Invariant: classes are matched by name wherever both sides have names, by number only where one has none; images of a class
//! that the model does not know are never counted as another's.

use crate::dataset::Dataset;
use crate::source::is_number;
use jempp_formats::{Error, Result};
use std::collections::HashMap;

/// The classes of a data set as classes of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMatch {
    /// For each class of the data set that of the model.
    to: Vec<u16>,
    /// Number of classes of the model.
    classes: usize,
    /// Their names; empty if they are only numbered.
    names: Vec<String>,
}

impl ClassMatch {
    /// Matches the classes of `set` with those of a model of `classes` classes called `names`, or only numbered if there are none.
    /// Labels without names that begin at 0 are the numbers of classes; names that are numbers are such labels.
    ///
    /// # Errors
    /// [`Error::Data`] if there are images of a class that the model does not have, naming both sides' classes.
    pub fn new(set: &Dataset, classes: usize, names: &[String]) -> Result<Self> {
        let numbers = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        let given = |names: &[String], n: usize| if names.len() == n { names.to_vec() } else { numbers(n) };
        let (theirs, ours) = (given(set.class_names(), set.classes()), given(names, classes));
        let numbered = |names: &[String]| names.iter().all(|n| is_number(n));
        if !set.is_labelled() {
            let name = set.name();
            return Err(Error::Data(format!("data set `{name}` has no labels, which this needs")));
        }
        // Where only one side has words, numbers are the order of its classes.
        let by_name = numbered(&theirs) == numbered(&ours);
        let index: HashMap<&str, u16> = (0..).zip(&ours).map(|(i, n)| (n.as_str(), i)).collect();
        let mut used = vec![false; set.classes()];
        set.labels().iter().for_each(|l| used[usize::from(*l)] = true);
        let find = |(i, name): (usize, &String)| match by_name {
            true => index.get(name.as_str()).copied(),
            // A data set whose labels were numbered anew still says what they were.
            false if numbered(&theirs) => name.parse().ok().filter(|l| usize::from(*l) < classes),
            false => Some(i as u16).filter(|l| usize::from(*l) < classes),
        };
        let found: Vec<Option<u16>> = theirs.iter().enumerate().map(find).collect();
        let unknown: Vec<&str> = (0..found.len())
            .filter(|i| used[*i] && found[*i].is_none())
            .map(|i| theirs[i].as_str())
            .collect();
        if unknown.is_empty() {
            let to = found.into_iter().map(Option::unwrap_or_default).collect();
            return Ok(Self { to, classes, names: names.to_vec() });
        }
        Err(Error::Data(format!(
            "data set `{}` has images of the class{} {}, which the model does not know; its classes are {}",
            set.name(),
            if unknown.len() > 1 { "es" } else { "" },
            listed(&unknown),
            listed(&ours.iter().map(String::as_str).collect::<Vec<_>>())
        )))
    }

    /// The data set with the labels, the number and the names of the model's classes.
    pub fn apply(&self, set: Dataset) -> Dataset {
        set.relabelled(&self.to, self.classes, &self.names)
    }
}

/// The first of many names.
pub(crate) fn listed(names: &[&str]) -> String {
    const MOST: usize = 10;
    let more = if names.len() > MOST { format!(", … ({} in all)", names.len()) } else { String::new() };
    names[..names.len().min(MOST)].join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::UNLABELLED;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Labels 0, 1, … of a set with these names, as the model's.
    fn matched(theirs: &str, n: usize, ours: &str, classes: usize) -> Result<Vec<u16>> {
        let set = Dataset::new("x", [1, 1, 1], n, vec![0; n], (0..n as u16).collect()).unwrap();
        let set = if theirs.is_empty() { set } else { set.with_class_names(names(theirs)).unwrap() };
        let m = ClassMatch::new(&set, classes, &names(ours))?;
        let set = m.apply(set);
        assert_eq!((set.classes(), set.class_names()), (classes, &names(ours)[..]));
        Ok(set.labels().to_vec())
    }

    #[test]
    fn names_are_matched_and_numbers_only_where_there_are_none() {
        // A class is missing, the order differs, all are the same.
        assert_eq!(matched("bee cat", 2, "ant bee cat", 3).unwrap(), [1, 2]);
        assert_eq!(matched("cat ant bee", 3, "ant bee cat", 3).unwrap(), [2, 0, 1]);
        assert_eq!(matched("ant bee cat", 3, "ant bee cat", 3).unwrap(), [0, 1, 2]);
        // One side has no names, or neither.
        assert_eq!(matched("", 2, "ant bee cat", 3).unwrap(), [0, 1]);
        assert_eq!(matched("ant bee", 2, "", 3).unwrap(), [0, 1]);
        assert_eq!(matched("", 3, "", 3).unwrap(), [0, 1, 2]);
        // Labels that were numbered anew are the numbers that they were; folders of numbers are in the order of their bytes.
        assert_eq!(matched("0 2 7", 3, "", 10).unwrap(), [0, 2, 7]);
        assert_eq!(matched("1 2 3", 3, "1 2 3", 3).unwrap(), [0, 1, 2]);
        assert_eq!(
            matched("", 11, "0 1 10 2 3 4 5 6 7 8 9", 11).unwrap(),
            [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 2]
        );
        assert_eq!(matched("0 2", 2, "ant bee cat", 3).unwrap(), [0, 2]);
    }

    #[test]
    fn unknown_classes_are_named() {
        let said = |theirs, n, ours, classes| matched(theirs, n, ours, classes).unwrap_err().to_string();
        let m = said("ant dog", 2, "ant bee cat", 3);
        assert!(
            m.contains("the class dog, which the model does not know; its classes are ant, bee, cat"),
            "{m}"
        );
        assert!(said("dog eel", 2, "ant bee", 2).contains("the classes dog, eel"));
        assert!(said("", 3, "1 2 3", 3).contains("the class 0,"));
        assert!(said("", 4, "ant bee cat", 3).contains("the class 3,"));
        assert!(said(UNLABELLED, 1, "ant bee", 2).contains("no labels"));
        // Classes without images are no matter.
        let set = Dataset::new("x", [1, 1, 1], 2, vec![0; 2], vec![1, 1]).unwrap();
        let set = set.with_class_names(names("eel bee")).unwrap();
        assert_eq!(ClassMatch::new(&set, 2, &names("ant bee")).unwrap().apply(set).labels(), [1, 1]);
    }
}
