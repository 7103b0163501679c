//! CelebA, aligned and cropped (Liu et al., 2015): `img_align_celeba/`, `list_attr_celeba.txt` (or `.csv`) and
//! `list_eval_partition.txt` (or `.csv`), of which only the images are required.
//!
//! Source: <https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html>.

use super::options::Options;
use crate::config::Crop;
use crate::digest::{Digest, stamp};
use crate::folder;
use crate::reading::Reading;
use crate::source::{Parts, Source, Work};
use crate::spread::spread;
use jempp_formats::place::Place;
use jempp_formats::resize::bilinear;
use jempp_formats::unpack::Unpack;
use jempp_formats::{Error, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const IMAGES: [&str; 2] = ["img_align_celeba", "img_align_celeba_png"];
/// Pixels of the shorter side after resizing.
const SIDE: usize = 32;
/// Largest text file in bytes.
const LONGEST: u64 = 1 << 26;
/// Without a partition, one in this many images is held out for test.
const TEST_EVERY: usize = 10;

/// The folder of images, if `folder` contains CelebA.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    IMAGES.iter().map(|n| folder.join(n)).find(|p| p.is_dir())
}

/// The path of a text file: `.txt`, or `.csv` in Kaggle's version.
fn list(root: &Path, name: &str) -> Option<PathBuf> {
    ["txt", "csv"].iter().map(|end| root.join(format!("{name}.{end}"))).find(|p| p.is_file())
}

/// Lists the data set in a folder.
///
/// # Errors
/// [`Error::Data`] when the images are missing; [`Error::Io`].
pub(crate) fn work(root: &Path, mut images: PathBuf, options: &Options) -> Result<Work> {
    // Some archives contain the folder in a folder of the same name.
    if let Some(name) = images.file_name().map(|n| images.join(n)).filter(|p| p.is_dir()) {
        images = name;
    }
    let items = folder::class_files(&images)?;
    let lists = [list(root, "list_attr_celeba"), list(root, "list_eval_partition")];
    let mut digest = Digest::new();
    digest.add(&stamp(&lists.iter().flatten().cloned().collect::<Vec<_>>())?.to_le_bytes());
    let mut files = Vec::with_capacity(items.len());
    let mut length = 0;
    for item in items {
        item.add_to(&mut digest);
        length += item.size;
        files.push(item.path);
    }
    let (crop, attribute, unpack) = (options.crop, options.attribute.clone(), options.unpack);
    let [attributes, partition] = lists;
    let stamp = digest.0;
    let read = move |reading: &mut Reading<'_>| {
        let set = Set { files, length, attributes, partition, crop, attribute, unpack };
        set.read(reading)
    };
    Ok(Work { stamp, read: Box::new(read) })
}

struct Set {
    files: Vec<PathBuf>,
    /// Total size of the files in bytes.
    length: u64,
    attributes: Option<PathBuf>,
    partition: Option<PathBuf>,
    crop: Crop,
    attribute: String,
    unpack: Unpack,
}

impl Set {
    fn read(mut self, reading: &mut Reading<'_>) -> Result<Source> {
        let mut warnings = Vec::new();
        let parts = self.divide(&mut warnings)?;
        let (labels, class_names) = self.labels()?;
        let n = self.files.len();
        let first = small(&self.files[0], self.crop, self.unpack)?;
        let size = first.0;
        // Images are stored once individually and once concatenated; tiny images would be enlarged.
        let bytes = 2 * (n * first.1.len()) as u64;
        let images = format!("{} and the other images", self.files[0].display());
        folder::afford(&images, self.length, bytes, self.unpack)?;
        let progress = &mut reading.progress;
        let work = |i: usize| {
            let (here, image) = small(&self.files[i], self.crop, self.unpack)?;
            if here != size {
                let why = format!(
                    "has size {here:?} after cropping and resizing, but {} has {size:?}",
                    self.files[0].display()
                );
                return Err(Place::file(&self.files[i]).unfit(why));
            }
            Ok(image)
        };
        let images = spread(reading.threads, n, work, &mut |k| progress(k, n))?.concat();
        let what = match self.crop {
            Crop::Square => "square crop",
            Crop::Compat39 => "whole, 39×32",
        };
        let labelled = if self.attribute.is_empty() {
            "no labels; set data.attribute".into()
        } else {
            format!("label {}", self.attribute)
        };
        let kind = format!("CelebA ({what}, {labelled})");
        Ok(Source { kind, size, classes: class_names.len(), class_names, images, labels, parts, warnings })
    }

    /// Sorts the files by part.
    fn divide(&mut self, warnings: &mut Vec<String>) -> Result<Parts> {
        let n = self.files.len();
        let Some(path) = &self.partition else {
            let test = n.div_ceil(TEST_EVERY).min(n - 1);
            warnings.push(format!(
                "CelebA without list_eval_partition.txt: the last {test} images by name are used for test"
            ));
            return Ok(Parts { train: n - test, valid: 0, test });
        };
        let text = text(path)?;
        let rows = partition(path, &text)?;
        let mut parts: [Vec<PathBuf>; 3] = Default::default();
        for file in std::mem::take(&mut self.files) {
            let part = *find_row(path, &rows, &file)?;
            parts[usize::from(part)].push(file);
        }
        let [train, valid, test] = [0, 1, 2].map(|i| parts[i].len());
        if train == 0 || test == 0 {
            let why = format!("it assigns {train} of the images to training and {test} to test");
            return Err(Place::file(path).unfit(why));
        }
        self.files = parts.concat();
        Ok(Parts { train, valid, test })
    }

    /// The labels of the files and the names of the classes.
    fn labels(&self) -> Result<(Vec<u16>, Vec<String>)> {
        if self.attribute.is_empty() {
            return Ok((vec![0; self.files.len()], vec!["face".into()]));
        }
        let Some(path) = &self.attributes else {
            let why = format!("`data.attribute` = \"{}\": there is no list_attr_celeba.txt", self.attribute);
            return Err(Error::Config(why));
        };
        let text = text(path)?;
        let rows = column(path, &text, &self.attribute)?;
        let labels = self.files.iter().map(|f| find_row(path, &rows, f).copied()).collect::<Result<_>>()?;
        Ok((labels, vec![format!("not {}", self.attribute), self.attribute.clone()]))
    }
}

/// Parses a partition: the part of each image.
fn partition<'a>(path: &Path, text: &'a str) -> Result<HashMap<&'a str, u8>> {
    let mut rows = HashMap::new();
    for (i, fields) in lines(text) {
        if let [name, part @ ("0" | "1" | "2")] = fields.as_slice() {
            rows.insert(*name, part.as_bytes()[0] - b'0');
        } else if i > 1 {
            return Err(Place::file(path).damaged(format!("line {i} is not a name and 0, 1 or 2")));
        }
    }
    Ok(rows)
}

/// Parses a list of attributes: whether each image has `attribute`.
fn column<'a>(path: &Path, text: &'a str, attribute: &str) -> Result<HashMap<&'a str, u16>> {
    let is_head = |f: &Vec<&str>| f.len() > 1 && f.iter().all(|f| f.parse::<i64>().is_err());
    let Some((at, head)) = lines(text).take(3).find(|(_, f)| is_head(f)) else {
        return Err(Place::file(path).damaged("its first lines do not name the attributes"));
    };
    let Some(column) = head.iter().position(|a| *a == attribute) else {
        let names: Vec<&str> = head.into_iter().filter(|a| *a != "image_id").collect();
        let (names, file) = (names.join(", "), path.display());
        let why = format!("`data.attribute` = \"{attribute}\": must be one of {names}, which {file} lists");
        return Err(Error::Config(why));
    };
    // In the text file the column of image names has no heading.
    let column = column + usize::from(head[0] != "image_id");
    let mut rows = HashMap::new();
    for (i, fields) in lines(text).filter(|(i, _)| *i > at) {
        let value = match fields.get(column) {
            Some(&"1") => 1,
            Some(&("-1" | "0")) => 0,
            _ => {
                let why = format!("line {i} has no 1 or -1 for {attribute}");
                return Err(Place::file(path).damaged(why));
            }
        };
        rows.insert(fields[0], value);
    }
    Ok(rows)
}

/// Parses the content of a partition or of a list of attributes, for fuzzing.
pub(crate) fn lists(path: &Path, bytes: &[u8]) -> Result<()> {
    let text = str::from_utf8(bytes).map_err(|e| Place::file(path).damaged(e))?;
    partition(path, text).map(drop).or_else(|_| column(path, text, "Smiling").map(drop))
}

/// The row of a file, which may have been converted to another format.
fn find_row<'a, T>(list: &Path, rows: &'a HashMap<&str, T>, file: &Path) -> Result<&'a T> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let jpg = file.with_extension("jpg");
    let jpg = jpg.file_name().unwrap_or_default().to_string_lossy();
    let row = rows.get(&*name).or_else(|| rows.get(&*jpg));
    row.ok_or_else(|| Place::file(list).unfit(format!("has no row for {name}")))
}

/// The lines of a table, numbered from 1, split at spaces or commas.
fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().enumerate().map(|(i, l)| (i + 1, fields(l))).filter(|(_, f)| !f.is_empty())
}

fn fields(line: &str) -> Vec<&str> {
    line.split([' ', ',', '\t']).map(str::trim).filter(|f| !f.is_empty()).collect()
}

fn text(path: &Path) -> Result<String> {
    let place = Place::file(path);
    let length = fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if length > LONGEST {
        return Err(place.unfit(format!("is larger than {} MiB", LONGEST >> 20)));
    }
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes)
        .map_err(|e| place.damaged(format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

/// Decodes, crops and resizes the image in a file.
fn small(path: &Path, crop: Crop, unpack: Unpack) -> Result<([usize; 3], Vec<u8>)> {
    let ([h, w], image) = folder::rgb(path, unpack)?;
    let short = h.min(w);
    let (size, image) = match crop {
        Crop::Compat39 => ([h, w], image),
        Crop::Square => {
            // Like torchvision's CenterCrop, which rounds halves to even.
            let (top, left) = (middle(h - short), middle(w - short));
            let rows = image.chunks_exact(w * 3).skip(top).take(short);
            ([short; 2], rows.flat_map(|r| &r[left * 3..(left + short) * 3]).copied().collect())
        }
    };
    let [oh, ow] = size.map(|n| SIDE * n / short);
    Ok(([oh, ow, 3], bilinear(&image, size, 3, [oh, ow])))
}

fn middle(n: usize) -> usize {
    (n as f64 / 2.0).round_ties_even() as usize
}
