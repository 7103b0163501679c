//! The valid files that are mutated: small ones from the tests, most of them written by the formats' own tools.

use super::gzip;
use super::probe::Parser;
use crate::{Error, Result};
use engine::Device;
use jempp::model::thresholds::Thresholds;
use jempp::model::{Scores, StartSamples};
use jempp::{Config, Model};
use jempp_formats::container::{Container, Tensor};
use std::fs;
use std::path::Path;

fn read(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jempp").join(name);
    fs::read(&path).map_err(|e| Error::Data(format!("{}: {e}", path.display())))
}

/// The files of one folder with one extension.
fn all(folder: &str, names: &[&str], ending: &str) -> Result<Vec<Vec<u8>>> {
    names.iter().map(|n| read(&format!("{folder}/{n}{ending}"))).collect()
}

/// Valid files for a parser.
///
/// # Errors
/// If they cannot be read.
pub fn seeds(parser: Parser) -> Result<Vec<Vec<u8>>> {
    let official = |name: &str| read(&format!("../tests/fixtures/{name}.pt"));
    match parser {
        Parser::Pickle => {
            let numpy =
                ["numpy1-0", "numpy1-2", "numpy1-4", "numpy2-3", "numpy2-5", "python2-0", "python2-2"];
            let mut files = all("formats/tests/pickle", &numpy, ".pkl")?;
            files.extend(all("formats/tests/pickle", &["values-0", "values-4", "cifar-2"], ".pkl")?);
            Ok(files)
        }
        Parser::Archive => archives(),
        Parser::Idx => {
            all("data/tests/sets/mnist", &["t10k-images-idx3-ubyte", "train-images-idx3-ubyte.gz"], "")
        }
        Parser::Mat => {
            all("data/tests/sets", &["svhn-big/test", "svhn-big/train", "svhn/extra"], "_32x32.mat")
        }
        Parser::Npz => all("data/tests/sets", &["plain", "keras", "med"], ".npz"),
        Parser::Inputs => Ok(vec![inputs()?, read("data/tests/sets/plain.npz")?]),
        Parser::Lists => all("data/tests/sets/celeba", &["list_attr_celeba", "list_eval_partition"], ".txt"),
        Parser::Png => all("formats/tests/pictures", &["grey", "rgb", "palette", "bits", "opaque"], ".png"),
        Parser::Jpeg => all("formats/tests/pictures", &["grey", "full", "half", "progressive"], ".jpg"),
        Parser::Gif => all("formats/tests/pictures", &["palette"], ".gif"),
        Parser::Bmp => all("formats/tests/pictures", &["rgb", "palette", "bits"], ".bmp"),
        Parser::WebP => all("formats/tests/pictures", &["lossy", "lossless", "turned"], ".webp"),
        Parser::Tiff => all("formats/tests/pictures", &["rgb", "lzw", "deflate", "grey16", "turned"], ".tif"),
        Parser::Table => Ok(vec![
            b"id,label\n1,frog\n2,cat\n3,\"a, b\"\n".to_vec(),
            b"val_0.JPEG\tn01443537\t0\t32\t44\t62\nval_1.JPEG\tn01629819\t0\t0\t63\t63\n".to_vec(),
        ]),
        Parser::Stl => {
            let image: Vec<u8> = (0..27_648u32).map(|i| (i * 7 % 251) as u8).collect();
            Ok(vec![[&image[..], &[3]].concat(), [&image[..], &image, &[1, 10]].concat()])
        }
        // Whole models are long and slow: one in four.
        Parser::Torch => {
            let values = read("formats/tests/torch/values.pt")?;
            Ok(vec![values.clone(), values.clone(), values, official("wrn10_1_official")?])
        }
        Parser::Legacy => {
            let values = read("formats/tests/torch/values_legacy.pt")?;
            Ok(vec![values.clone(), values.clone(), values, official("wrn10_1_official_legacy")?])
        }
        Parser::Moments => all("tests/torch", &["mean", "cov"], ".pt"),
        Parser::Safetensors => {
            let small = container()?;
            let mut plain = Container::from_bytes(&model()?, Path::new("model"))?;
            plain.meta.clear();
            Ok(vec![small.clone(), small.clone(), small.clone(), small, model()?, plain.to_bytes()?])
        }
        Parser::Toml => {
            let whole = Config::preset("digits")?.to_toml()?.into_bytes();
            let short = b"preset = \"jem\"\nseed = 7\n[train]\nlr = 0.2\nlr_decay_epochs = [50, 100]\n\
                          [sampler]\nliteral = true\n[data]\ndataset = \"a/b\"\n[model]\nimage_size = [8, 8, 1]\n";
            Ok(vec![short.to_vec(), short.to_vec(), short.to_vec(), whole])
        }
    }
}

/// Tar archives of CIFAR, compressed and not.
fn archives() -> Result<Vec<Vec<u8>>> {
    let [train, test, names] = ["train.bin", "test.bin", "fine_label_names.txt"]
        .map(|n| read(&format!("data/tests/sets/cifar-100-binary/{n}")));
    let (train, test, names) = (train?, test?, names?);
    let fail = |e: std::io::Error| Error::Data(e.to_string());
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in
        [("train.bin", &train[..3074]), ("test.bin", &test[..3074]), ("fine_label_names.txt", &names)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, format!("x/{name}"), data).map_err(fail)?;
    }
    let plain = tar.into_inner().map_err(fail)?;
    Ok(vec![plain.clone(), gzip(&plain), plain, read("data/tests/sets/cifar-100-python.tar.gz")?])
}

/// Images to predict for.
fn inputs() -> Result<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("jempp-mutate-{}.npz", std::process::id()));
    let arrays = [
        ("images", jempp_formats::npz::Array::F32(&[3, 4, 5, 1], &[0.25; 60])),
        ("labels", jempp_formats::npz::Array::I64(&[3], &[0, 1, 2])),
    ];
    jempp_formats::npz::write(&path, &arrays)?;
    let bytes = fs::read(&path).and_then(|bytes| fs::remove_file(&path).map(|()| bytes));
    bytes.map_err(|e| Error::Data(format!("{}: {e}", path.display())))
}

/// Tensors of every type.
fn container() -> Result<Vec<u8>> {
    let mut c = Container::new([
        Tensor::f32("f.conv1.weight", [2, 1, 3, 1], vec![0.5; 6]),
        Tensor::i32("labels", [3], vec![1, -2, 3]),
        Tensor::u8("bytes", [2, 4], vec![7; 8]),
        Tensor::i64("steps", [], vec![1 << 40]),
    ]);
    c.meta.insert("step".into(), "12".into());
    Ok(c.to_bytes()?)
}

/// A model with all the metadata that it can carry.
fn model() -> Result<Vec<u8>> {
    let config = Config::preset("digits")?;
    let mut model =
        Model::new(&Device::cpu(1), &config.model, |_, spec| Ok(vec![0.5; spec.shape().iter().product()]))?;
    model.set_start_samples(StartSamples {
        means: vec![0.0; 640],
        draws: vec![0.1; 640],
        classes: (0..10).collect(),
    });
    let scores = Scores { logits: vec![0.5; 400], log_density: (0..40).map(|i| i as f32).collect() };
    let labels: Vec<u16> = (0..40).map(|i| i % 10).collect();
    model.set_thresholds(Thresholds::fit(&scores, (10, &labels), [0.1, 0.05], "x")?);
    model.metadata.insert("config".into(), config.to_toml()?);
    Ok(model.to_container()?.to_bytes()?)
}
