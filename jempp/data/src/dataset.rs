//! Labelled images in memory, and their split into training, validation and test images.

use crate::bytes::Bytes;
use crate::mt19937;
use crate::source::UNLABELLED;
use jempp_formats::pixels::value;
use jempp_formats::resize::{Resize, bilinear};
use jempp_formats::{Error, Result};

/// Labelled images in memory or in a memory-mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    height: usize,
    width: usize,
    channels: usize,
    classes: usize,
    class_names: Vec<String>,
    images: Bytes,
    labels: Vec<u16>,
    crc32c: u32,
}

/// A split of a [`Dataset`] into parts, as indices of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Training images, in split order.
    pub train: Vec<u32>,
    /// Validation images, which are held out for model selection.
    pub valid: Vec<u32>,
    /// Test images, for the final evaluation only.
    pub test: Vec<u32>,
}

impl Dataset {
    /// A data set of `images` (N×H×W×C of `size` = [H, W, C], 0–255) with `labels` (N, below `classes`).
    ///
    /// # Errors
    /// [`Error::Data`] when there are no images, sizes disagree or a label is out of range.
    pub fn new(
        name: &str,
        size: [usize; 3],
        classes: usize,
        images: impl Into<Bytes>,
        labels: Vec<u16>,
    ) -> Result<Self> {
        let images = images.into();
        let fail = |why: String| Err(Error::Data(format!("data set `{name}`: {why}")));
        let [height, width, channels] = size;
        let pixels = height.checked_mul(width).and_then(|p| p.checked_mul(channels)).unwrap_or(0);
        if pixels == 0 || labels.is_empty() {
            return fail(format!("{} images of size {size:?} are not a data set", labels.len()));
        }
        if labels.len() > u32::MAX as usize || labels.len().checked_mul(pixels) != Some(images.len()) {
            let (n, got) = (labels.len(), images.len());
            return fail(format!("{n} labels and images of size {size:?} do not match {got} values"));
        }
        if let Some(i) = labels.iter().position(|l| usize::from(*l) >= classes) {
            return fail(format!(
                "label {} of image {i} is not below {classes}, the number of classes",
                labels[i]
            ));
        }
        let mut crc = 0;
        for n in [height, width, channels, classes] {
            crc = crc32c::crc32c_append(crc, &(n as u64).to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, &images);
        for l in &labels {
            crc = crc32c::crc32c_append(crc, &l.to_le_bytes());
        }
        let (name, class_names) = (name.to_string(), Vec::new());
        Ok(Self { name, height, width, channels, classes, class_names, images, labels, crc32c: crc })
    }

    /// Whether its images have labels.
    pub fn is_labelled(&self) -> bool {
        self.class_names != [UNLABELLED]
    }

    /// Sets the names of the classes, which do not affect [`Dataset::crc32c`].
    ///
    /// # Errors
    /// [`Error::Data`] when their number is not that of the classes.
    pub(crate) fn with_class_names(mut self, names: Vec<String>) -> Result<Self> {
        if names.len() != self.classes {
            let (name, n, classes) = (&self.name, names.len(), self.classes);
            return Err(Error::Data(format!("data set `{name}`: {n} names for {classes} classes")));
        }
        self.class_names = names;
        Ok(self)
    }

    /// The name of the data set.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Height, width and channels of the images.
    pub fn size(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Values per image: H·W·C.
    pub fn pixels(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Names of the classes; empty if they are only numbered.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of images; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// All images, N×H×W×C, 0–255.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All labels, N.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Image `i`, H×W×C, if it exists.
    pub fn image(&self, i: u32) -> Option<&[u8]> {
        let p = self.pixels();
        let start = (i as usize).checked_mul(p)?;
        self.images.get(start..start.checked_add(p)?)
    }

    /// Writes the labels of `indices` to `out`.
    ///
    /// # Errors
    /// [`Error::Data`] when the lengths differ or an index is out of range.
    pub fn labels_of(&self, indices: &[u32], out: &mut [u16]) -> Result<()> {
        if indices.len() != out.len() {
            let (n, m) = (indices.len(), out.len());
            return Err(Error::Data(format!("{n} labels do not fit a batch of {m}")));
        }
        if !self.is_labelled() {
            return Err(Error::Data(format!("the images of `{}` have no labels", self.name)));
        }
        for (i, o) in indices.iter().zip(out) {
            *o = *self.labels.get(*i as usize).ok_or_else(|| self.no_image(*i))?;
        }
        Ok(())
    }

    /// A data set of the images `indices` with their labels, resized to `size` = [H, W, C] like PIL's bilinear filter.
    /// Grey images are repeated for three channels; colour images are converted to one channel like PIL's mode L.
    ///
    /// # Errors
    /// [`Error::Data`] when a number of channels is not 1 or 3, or an index is out of range.
    pub fn fitted(&self, indices: &[u32], size: [usize; 3]) -> Result<Self> {
        let [h, w, c] = size;
        if ![1, 3].contains(&self.channels) || ![1, 3].contains(&c) {
            let (name, from) = (&self.name, self.channels);
            return Err(Error::Data(format!(
                "images of `{name}` have {from} channels and cannot be given {c}"
            )));
        }
        let mut images = Vec::with_capacity(indices.len() * h * w * c);
        for &i in indices {
            let image = self.image(i).ok_or_else(|| self.no_image(i))?;
            let scaled = bilinear(image, [self.height, self.width], self.channels, [h, w]);
            match (self.channels, c) {
                (3, 1) => images.extend(scaled.chunks_exact(3).map(grey)),
                (1, 3) => images.extend(scaled.iter().flat_map(|v| [*v; 3])),
                _ => images.extend(scaled),
            }
        }
        let labels = indices.iter().map(|i| self.labels[*i as usize]).collect();
        Self::new(&self.name, size, self.classes, images, labels)
    }

    /// The data set with all images scaled.
    ///
    /// # Errors
    /// [`Error::Data`] when they are too large together.
    pub(crate) fn resized(self, resize: &Resize) -> Result<Self> {
        let ([h, w], from, c) = (resize.size, [self.height, self.width], self.channels);
        if from == resize.size {
            return Ok(self);
        }
        let mut images = Vec::new();
        let all = self.len().checked_mul(h * w * c).filter(|n| images.try_reserve_exact(*n).is_ok());
        if all.is_none() {
            return Err(Error::Data(format!("{} images of {h}×{w} do not fit in memory", self.len())));
        }
        self.images.chunks_exact(self.pixels()).for_each(|i| images.extend(resize.apply(i, from, c)));
        let set = Self::new(&self.name, [h, w, c], self.classes, images, self.labels)?;
        if self.class_names.is_empty() { Ok(set) } else { set.with_class_names(self.class_names) }
    }

    /// The data set with other numbers and names of the classes: class `i` is `to[i]`, below `classes`. The checksum stays that
    /// of the data set.
    pub(crate) fn relabelled(mut self, to: &[u16], classes: usize, names: &[String]) -> Self {
        for l in &mut self.labels {
            *l = to.get(usize::from(*l)).copied().unwrap_or_default();
        }
        (self.classes, self.class_names) = (classes, names.to_vec());
        self
    }

    /// Checksum (CRC-32C) of sizes, images and labels, which distinguishes data sets of the same name.
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }

    pub(crate) fn no_image(&self, i: u32) -> Error {
        Error::Data(format!("data set `{}` has {} images, so none of index {i}", self.name, self.len()))
    }
}

/// Luma of red, green and blue in PIL's fixed-point arithmetic (ITU-R 601-2).
fn grey(rgb: &[u8]) -> u8 {
    let sum: u32 = rgb.iter().zip([19_595, 38_470, 7_471]).map(|(v, weight)| u32::from(*v) * weight).sum();
    ((sum + (1 << 15)) >> 16) as u8
}

/// Splits `valid_size` images off `pool` for validation and returns (validation, training), in the order of JEM++'s
/// published code, which is that of NumPy's `seed(1234); shuffle(list(range(N)))`. With a size of 0 the pool keeps its
/// order.
///
/// # Errors
/// [`Error::Config`] when no training images would be left.
pub(crate) fn hold_back(pool: &[u32], valid_size: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    if valid_size == 0 {
        return Ok((Vec::new(), pool.to_vec()));
    }
    if valid_size >= pool.len() {
        let n = pool.len();
        return Err(Error::Config(format!(
            "`data.valid_size` = {valid_size}: must be below {n}, the number of training images"
        )));
    }
    let order: Vec<u32> = mt19937::numpy_permutation(1234, pool.len()).iter().map(|i| pool[*i]).collect();
    let (valid, train) = order.split_at(valid_size);
    Ok((valid.to_vec(), train.to_vec()))
}

/// Writes the images `indices` of `set`, without augmentation, to `out` (n×H×W×C, in [−1, 1]).
///
/// # Errors
/// [`Error::Data`] when the length of `out` differs or an index is out of range.
pub fn plain_batch(set: &Dataset, indices: &[u32], out: &mut [f32]) -> Result<()> {
    if indices.len().checked_mul(set.pixels()) != Some(out.len()) {
        let (n, size, m) = (indices.len(), set.size(), out.len());
        return Err(Error::Data(format!("{n} images of size {size:?} do not fit {m} values")));
    }
    for (i, image) in indices.iter().zip(out.chunks_exact_mut(set.pixels())) {
        let source = set.image(*i).ok_or_else(|| set.no_image(*i))?;
        for (o, u) in image.iter_mut().zip(source) {
            *o = value(*u);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inconsistent_data_are_refused() {
        let fail = |size, classes, images: usize, labels: Vec<u16>| {
            Dataset::new("x", size, classes, vec![0; images], labels).unwrap_err().to_string()
        };
        assert!(fail([2, 2, 1], 2, 7, vec![0, 1]).contains("do not match 7 values"));
        assert!(fail([2, 2, 1], 2, 8, vec![0, 2]).contains("label 2 of image 1 is not below 2"));
        assert!(fail([2, 2, 1], 2, 0, vec![]).contains("not a data set"));
        assert!(fail([usize::MAX, 2, 1], 2, 0, vec![0]).contains("not a data set"));
    }

    #[test]
    fn plain_batches_are_scaled_bytes() {
        let set = Dataset::new("x", [1, 2, 1], 2, vec![0, 255, 51, 204], vec![0, 1]).unwrap();
        let mut out = [9.0; 4];
        plain_batch(&set, &[1, 0], &mut out).unwrap();
        assert_eq!(out, [value(51), value(204), -1.0, 1.0]);
        assert!(plain_batch(&set, &[1], &mut out).unwrap_err().to_string().contains("do not fit 4"));
        assert!(plain_batch(&set, &[2, 0], &mut out).unwrap_err().to_string().contains("index 2"));
    }

    #[test]
    fn images_are_resized_like_pil() {
        // np.array(im.resize((3, 3), Image.BILINEAR).convert("L")), im = Image.fromarray(images of shape [2, 2, 3]).
        let image = vec![10, 200, 30, 255, 0, 128, 0, 0, 0, 255, 255, 255];
        let set = Dataset::new("x", [2, 2, 3], 2, [vec![7; 12], image.clone()].concat(), vec![0, 1]).unwrap();
        let grey = set.fitted(&[1], [3, 3, 1]).unwrap();
        assert_eq!(grey.images(), [124, 107, 91, 62, 118, 173, 0, 128, 255]);
        assert_eq!((grey.labels(), grey.size(), grey.name()), (&[1][..], [3, 3, 1], "x"));
        let wide = grey.fitted(&[0], [3, 3, 3]).unwrap();
        assert_eq!(&wide.images()[3..9], [107, 107, 107, 91, 91, 91]);
        assert_eq!(set.fitted(&[1, 0], [2, 2, 3]).unwrap().image(0).unwrap(), image);
        assert!(set.fitted(&[2], [2, 2, 3]).unwrap_err().to_string().contains("index 2"));
        assert!(set.fitted(&[0], [2, 2, 4]).unwrap_err().to_string().contains("3 channels"));
    }

    #[test]
    fn checksum_sees_images_labels_and_sizes() {
        let crc =
            |size, images: Vec<u8>, labels| Dataset::new("x", size, 3, images, labels).unwrap().crc32c();
        let base = crc([1, 2, 1], vec![1, 2, 3, 4], vec![0, 1]);
        assert_eq!(base, crc([1, 2, 1], vec![1, 2, 3, 4], vec![0, 1]));
        assert_ne!(base, crc([2, 1, 1], vec![1, 2, 3, 4], vec![0, 1]));
        assert_ne!(base, crc([1, 2, 1], vec![1, 2, 3, 5], vec![0, 1]));
        assert_ne!(base, crc([1, 2, 1], vec![1, 2, 3, 4], vec![0, 2]));
    }

    #[test]
    fn labels_and_images_are_looked_up() {
        let set = Dataset::new("x", [1, 2, 1], 3, vec![1, 2, 3, 4], vec![0, 2]).unwrap();
        let mut out = [9; 3];
        set.labels_of(&[1, 0, 1], &mut out).unwrap();
        assert_eq!(out, [2, 0, 2]);
        assert!(set.labels_of(&[2, 0, 0], &mut out).unwrap_err().to_string().contains("index 2"));
        assert!(set.labels_of(&[0], &mut out).is_err());
        assert_eq!((set.image(1), set.image(2)), (Some(&[3u8, 4][..]), None));
    }
}
