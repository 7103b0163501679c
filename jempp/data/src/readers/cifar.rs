//! CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): the binary and the Python versions, in a folder or an archive.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>.

use super::known;
use super::options::Options;
use crate::config::LabelKind;
use crate::digest::stamp;
use crate::source::{Labelled, Parts, Source, Work, label, push_interleaved, wrong_label};
use jempp_formats::pickle::{Item, Pickle, numpy};
use jempp_formats::place::Place;
use jempp_formats::stream::{self, MaybeGz, Summed};
use jempp_formats::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Values per image.
const PIXELS: usize = 32 * 32 * 3;

/// A data set in one of its published versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// CIFAR-100 rather than CIFAR-10.
    hundred: bool,
    python: bool,
}

const VERSIONS: [Version; 4] = [
    Version { hundred: false, python: false },
    Version { hundred: false, python: true },
    Version { hundred: true, python: false },
    Version { hundred: true, python: true },
];

impl Version {
    /// Names of its files: training, test, and those with the names of the classes.
    fn files(self) -> (Vec<String>, &'static str, [&'static str; 2]) {
        let batches = |end: &str| (1..=5).map(|i| format!("data_batch_{i}{end}")).collect();
        match (self.hundred, self.python) {
            (false, false) => (batches(".bin"), "test_batch.bin", ["batches.meta.txt"; 2]),
            (false, true) => (batches(""), "test_batch", ["batches.meta"; 2]),
            (true, false) => {
                (vec!["train.bin".into()], "test.bin", ["fine_label_names.txt", "coarse_label_names.txt"])
            }
            (true, true) => (vec!["train".into()], "test", ["meta"; 2]),
        }
    }

    fn classes(self, labels: LabelKind) -> usize {
        match (self.hundred, labels) {
            (false, _) => 10,
            (true, LabelKind::Fine) => 100,
            (true, LabelKind::Coarse) => 20,
        }
    }

    fn name(self) -> &'static str {
        match (self.hundred, self.python) {
            (false, false) => "CIFAR-10, binary version",
            (false, true) => "CIFAR-10, Python version",
            (true, false) => "CIFAR-100, binary version",
            (true, true) => "CIFAR-100, Python version",
        }
    }

    /// The version whose files exist in a folder or archive.
    fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        VERSIONS.into_iter().find(|v| {
            let (train, test, _) = v.files();
            has(&train[0]) && has(test)
        })
    }
}

/// The version in a folder, if it contains one.
pub(crate) fn find(folder: &Path) -> Option<Version> {
    Version::of(|name| folder.join(name).is_file())
}

/// Lists the data set in a folder.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn folder(root: &Path, version: Version, options: &Options) -> Result<Work> {
    let (mut names, test, [fine, coarse]) = version.files();
    names.extend([test, fine, coarse].map(str::to_owned));
    let files: Vec<PathBuf> = names.iter().map(|n| root.join(n)).filter(|p| p.exists()).collect();
    let labels = options.labels;
    let stamp = stamp(&files)?;
    let read = move || {
        let mut all = Collected::new(labels);
        all.version = Some(version);
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let place = Place::file(path);
            let file = fs::File::open(path).and_then(|f| f.metadata().map(|m| (m.len(), f)));
            let (length, mut file) = file.map_err(|e| Error::io(path, e))?;
            all.add(&name, &place, length, length, &mut file)?;
        }
        all.finish(&Place::file(root_of(&files)), Vec::new())
    };
    Ok(Work { stamp, read: Box::new(move |_| read()) })
}

fn root_of(files: &[PathBuf]) -> &Path {
    files.first().and_then(|f| f.parent()).unwrap_or(Path::new(""))
}

/// Opens the data set in an archive, `.tar.gz` or `.tar`.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn archive(path: &Path, options: &Options) -> Result<Work> {
    let stamp = stamp(&[path.to_path_buf()])?;
    let (path, labels, most) = (path.to_path_buf(), options.labels, options.unpack);
    let read = move || {
        let place = Place::file(&path);
        let (file, length) = Summed::open(&path)?;
        let mut from = MaybeGz::new(file, stream::is_gz(&path), length, most);
        let all = unpack(&place, &mut from, labels)?;
        let sum = from.into_inner().finish(&path)?;
        all.finish(&place, vec![sum])
    };
    Ok(Work { stamp, read: Box::new(move |_| read()) })
}

/// Reads the files in an archive.
///
/// # Errors
/// [`Error::Format`] or [`Error::Data`] when it is damaged or unsuitable; [`Error::Io`].
pub(crate) fn unpack<R: Read>(place: &Place, from: &mut MaybeGz<R>, labels: LabelKind) -> Result<Collected> {
    let most = from.left();
    let mut all = Collected::new(labels);
    stream::members(place, &mut *from, &mut |name, place, length, member| {
        all.add(name, place, length, most, member)
    })?;
    // Read to the end, where gzip's checksum is.
    std::io::copy(from, &mut std::io::sink()).map_err(|e| place.read_error(e))?;
    Ok(all)
}

/// The files read so far, in any order.
pub(crate) struct Collected {
    labels: LabelKind,
    version: Option<Version>,
    batches: BTreeMap<String, Labelled>,
    names: Vec<String>,
}

impl Collected {
    fn new(labels: LabelKind) -> Self {
        Self { labels, version: None, batches: BTreeMap::new(), names: Vec::new() }
    }

    /// Reads a file if it belongs to the data set.
    fn add(
        &mut self,
        name: &str,
        place: &Place,
        length: u64,
        most: u64,
        from: stream::Member<'_>,
    ) -> Result<()> {
        let labels = self.labels;
        for v in VERSIONS.into_iter().filter(|v| self.version.is_none_or(|w| w == *v)) {
            let (train, test, names) = v.files();
            if name == names[usize::from(labels == LabelKind::Coarse)] {
                let bytes = stream::whole(place, from, length, most)?;
                self.names = class_names(place, &bytes, v, labels)?;
                return Ok(());
            }
            if name != test && !train.iter().any(|t| t == name) {
                continue;
            }
            self.version = Some(v);
            let batch = if v.python {
                python(place, &stream::whole(place, from, length, most)?, v, labels)?
            } else {
                binary(place, from, length, most, v, labels)?
            };
            if self.batches.insert(name.to_owned(), batch).is_some() {
                return Err(place.damaged("occurs twice"));
            }
            return Ok(());
        }
        Ok(())
    }

    /// Assembles the data set; `sums` are the MD5 checksums of its files.
    ///
    /// # Errors
    /// [`Error::Data`] when files are missing.
    pub(crate) fn finish(mut self, place: &Place, sums: Vec<String>) -> Result<Source> {
        let Some(version) = self.version else {
            return Err(place.unfit("contains none of the files of CIFAR-10 or CIFAR-100"));
        };
        let (train, test, _) = version.files();
        let mut all = Vec::new();
        let mut parts = Parts::default();
        for name in train.iter().map(String::as_str).chain([test]) {
            let Some(batch) = self.batches.remove(name) else {
                return Err(place.unfit(format!("{} without its file {name}", version.name())));
            };
            if name == test {
                parts.test = batch.labels.len();
            } else {
                parts.train += batch.labels.len();
            }
            all.push(batch);
        }
        let all = Labelled::join(all);
        let classes = version.classes(self.labels);
        let class_names = if self.names.len() == classes { self.names } else { Vec::new() };
        let coarse = if classes == 20 { ", coarse labels" } else { "" };
        let verdict = known::verdict(&sums);
        let verdict = if verdict.is_empty() { verdict } else { format!(" ({verdict})") };
        let kind = format!("{}{coarse}{verdict}", version.name());
        let (images, labels, warnings) = (all.images, all.labels, Vec::new());
        Ok(Source { kind, size: [32, 32, 3], classes, class_names, images, labels, parts, warnings })
    }
}

/// Parses binary records of one label (CIFAR-100: a coarse, then a fine one) and three colour planes.
fn binary(
    place: &Place,
    from: stream::Member<'_>,
    length: u64,
    most: u64,
    version: Version,
    labels: LabelKind,
) -> Result<Labelled> {
    let (before, which) = match (version.hundred, labels) {
        (false, _) => (1, 0),
        (true, LabelKind::Coarse) => (2, 0),
        (true, LabelKind::Fine) => (2, 1),
    };
    let record = before + PIXELS;
    let n = stream::fits(place, length, most)? / record;
    if n == 0 || !length.is_multiple_of(record as u64) {
        return Err(place.damaged(format!("its {length} bytes are not whole records of {record}")));
    }
    let classes = version.classes(labels);
    let mut out = Labelled { images: Vec::with_capacity(n * PIXELS), labels: Vec::with_capacity(n) };
    let mut bytes = vec![0; record];
    for i in 0..n {
        from.read_exact(&mut bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                place.damaged(format!("is cut short in image {i}, which begins at byte {}", i * record))
            }
            _ => place.read_error(e),
        })?;
        let value = i64::from(bytes[which]);
        out.labels.push(label(value, classes).ok_or_else(|| wrong_label(place, value, i, classes))?);
        push_interleaved(&bytes[before..], &mut out.images);
    }
    Ok(out)
}

/// Parses a pickled dictionary with `data`, N×3072, and a list of labels.
fn python(place: &Place, bytes: &[u8], version: Version, labels: LabelKind) -> Result<Labelled> {
    let pickle = read_pickle(place, bytes)?;
    let get = |key: &str| -> Result<Item<'_>> {
        let found = pickle.root().as_pairs().and_then(|p| p.get(key));
        found.ok_or_else(|| {
            place.unfit(format!("the pickle is {}, without a key `{key}`", pickle.root().kind()))
        })
    };
    let key = match (version.hundred, labels) {
        (false, _) => "labels",
        (true, LabelKind::Fine) => "fine_labels",
        (true, LabelKind::Coarse) => "coarse_labels",
    };
    let data = numpy::array(get("data")?).map_err(|e| place.unfit(format!("`data`: {e}")))?;
    if data.dtype != "u1" || data.fortran || data.shape.len() != 2 || data.shape[1] != PIXELS {
        let why = format!("`data` is {} of shape {:?}, not uint8 of [N, {PIXELS}]", data.dtype, data.shape);
        return Err(place.unfit(why));
    }
    let n = data.shape[0];
    if n == 0 {
        return Err(place.unfit("`data` contains no image"));
    }
    let values = numpy::integers(get(key)?, n).map_err(|e| place.unfit(format!("`{key}`: {e}")))?;
    let classes = version.classes(labels);
    let mut out = Labelled { images: Vec::with_capacity(n * PIXELS), labels: Vec::with_capacity(n) };
    for (i, (image, value)) in data.bytes.chunks_exact(PIXELS).zip(values).enumerate() {
        out.labels.push(label(value, classes).ok_or_else(|| wrong_label(place, value, i, classes))?);
        push_interleaved(image, &mut out.images);
    }
    Ok(out)
}

/// Reads a pickle of images, which consists of few instructions and long strings.
fn read_pickle<'a>(place: &Place, bytes: &'a [u8]) -> Result<Pickle<'a>> {
    Pickle::read_short(bytes, 4096 + bytes.len() / 64).map_err(|e| place.damaged(e))
}

/// Parses the names of the classes: one per line, or in a pickle.
fn class_names(place: &Place, bytes: &[u8], version: Version, labels: LabelKind) -> Result<Vec<String>> {
    if !version.python {
        let text = String::from_utf8_lossy(bytes);
        return Ok(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect());
    }
    let pickle = read_pickle(place, bytes)?;
    let key = match (version.hundred, labels) {
        (false, _) => "label_names",
        (true, LabelKind::Fine) => "fine_label_names",
        (true, LabelKind::Coarse) => "coarse_label_names",
    };
    let names = pickle.root().as_pairs().and_then(|p| p.get(key)).and_then(Item::as_items);
    let names = names.map(|n| n.iter().filter_map(Item::as_str).map(str::to_owned).collect());
    Ok(names.unwrap_or_default())
}
