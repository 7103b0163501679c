//! The InceptionV3 network as a program of the engine: Szegedy et al., "Rethinking the Inception Architecture for Computer
//! Vision" (2016), in the two variants that are in use with PyTorch.
//!
//! Invariant: layers and tensors have the names of PyTorch's state dicts.

use super::variant::{FEATURES, Variant};
use super::weights;
use engine::ops::avg_pool2d::{AvgPool2d, Pool};
use engine::ops::concat::{Concat, Frame};
use engine::ops::conv2d::{Conv2d, Geometry};
use engine::ops::global_avg_pool::GlobalAvgPool;
use engine::ops::leaky_relu::LeakyRelu;
use engine::ops::linear::Linear;
use engine::ops::max_pool2d::MaxPool2d;
use engine::{Spec, State, Tape, Var};
use jempp::Result;
use jempp_formats::container::Container;
use std::collections::BTreeSet;

/// Filter sizes, rows × columns.
const ROW7: [usize; 2] = [1, 7];
const COLUMN7: [usize; 2] = [7, 1];
const ROW3: [usize; 2] = [1, 3];
const COLUMN3: [usize; 2] = [3, 1];

/// Records the network to a tape, with its weights in `state`.
pub(super) struct Graph<'a> {
    tape: &'a mut Tape,
    dict: &'a Container,
    state: &'a mut State,
    variant: Variant,
    /// Names of the layers recorded so far.
    used: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    /// A recorder that has not recorded anything yet.
    pub(super) fn new(
        tape: &'a mut Tape,
        dict: &'a Container,
        state: &'a mut State,
        variant: Variant,
    ) -> Self {
        Self { tape, dict, state, variant, used: BTreeSet::new() }
    }

    /// Names of the layers recorded so far.
    pub(super) fn used(&self) -> &BTreeSet<String> {
        &self.used
    }

    /// Records the whole network on images N×H×W×3 in [−1, 1]. Returns features N×2048 and logits N×classes.
    pub(super) fn record(&mut self, x: Var) -> Result<[Var; 2]> {
        let x = self.layer(x, "Conv2d_1a_3x3", 32, [3, 3], 2, 0)?;
        let x = self.layer(x, "Conv2d_2a_3x3", 32, [3, 3], 1, 0)?;
        let x = self.layer(x, "Conv2d_2b_3x3", 64, [3, 3], 1, 1)?;
        let x = self.max_pool(x, 2, 0)?;
        let x = self.layer(x, "Conv2d_3b_1x1", 80, [1, 1], 1, 0)?;
        let x = self.layer(x, "Conv2d_4a_3x3", 192, [3, 3], 1, 0)?;
        let mut x = self.max_pool(x, 2, 0)?;
        for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
            x = self.block_a(x, name, pooled)?;
        }
        x = self.block_b(x, "Mixed_6a")?;
        for (name, width) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
            x = self.block_c(x, name, width)?;
        }
        x = self.block_d(x, "Mixed_7a")?;
        x = self.block_e(x, "Mixed_7b", false)?;
        x = self.block_e(x, "Mixed_7c", self.variant == Variant::Fid)?;
        let features = self.tape.one(GlobalAvgPool, &[x])?;
        Ok([features, self.logits(features)?])
    }

    /// The last layer. On FID's network it has no bias, as in the original code of the Inception score.
    fn logits(&mut self, features: Var) -> Result<Var> {
        let k = weights::classes(self.dict)?;
        let bias = self.dict.f32("fc.bias", &[k])?;
        let w = self.constant("fc.weight", &[k, FEATURES], self.dict.f32("fc.weight", &[k, FEATURES])?)?;
        if self.variant == Variant::Fid {
            return Ok(self.tape.one(Linear, &[features, w])?);
        }
        let b = self.constant("fc.bias", &[k], bias)?;
        Ok(self.tape.one(Linear, &[features, w, b])?)
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<Var> {
        let slot = self.state.add(name, Spec::f32(shape))?;
        self.state.set(slot, values)?;
        Ok(self.tape.read(slot))
    }

    /// Convolution with `k` filters of size `[r, s]`, batch norm (folded into the filters) and ReLU.
    fn layer(
        &mut self,
        x: Var,
        name: &str,
        k: usize,
        [r, s]: [usize; 2],
        stride: usize,
        pad: usize,
    ) -> Result<Var> {
        let shape = [k, r, s, self.tape.spec(x)?.last()];
        let (filters, bias) = weights::folded(self.dict, name, shape)?;
        self.used.insert(name.to_owned());
        let w = self.constant(&format!("{name}.weight"), &shape, &filters)?;
        let b = self.constant(&format!("{name}.bias"), &[k], &bias)?;
        let conv = Conv2d { geometry: Geometry { stride, pad }, bias: true, residual: false };
        let y = self.tape.one(conv, &[x, w, b])?;
        Ok(self.tape.one(LeakyRelu { leak: 0.0 }, &[y])?)
    }

    /// Records a layer like [`Graph::layer`], but with filters of unequal sides and zero padding that keeps the size of
    /// the image.
    fn asymmetric(&mut self, x: Var, name: &str, k: usize, filter: [usize; 2]) -> Result<Var> {
        let [rows, columns] = filter.map(|n| n / 2);
        let x = self.tape.one(Concat { frame: Frame { rows, columns, ..Frame::default() } }, &[x])?;
        self.layer(x, name, k, filter, 1, 0)
    }

    fn max_pool(&mut self, x: Var, stride: usize, pad: usize) -> Result<Var> {
        Ok(self.tape.one(MaxPool2d { pool: Pool { size: 3, stride, pad } }, &[x])?)
    }

    fn mean_pool(&mut self, x: Var) -> Result<Var> {
        let pool = Pool { size: 3, stride: 1, pad: 1 };
        Ok(self.tape.one(AvgPool2d { pool, pads: self.variant == Variant::Torchvision }, &[x])?)
    }

    fn join(&mut self, parts: &[Var]) -> Result<Var> {
        Ok(self.tape.one(Concat::default(), parts)?)
    }

    /// InceptionA of torchvision, at 35×35 pixels.
    fn block_a(&mut self, x: Var, name: &str, pooled: usize) -> Result<Var> {
        let of = |part: &str| format!("{name}.{part}");
        let one = self.layer(x, &of("branch1x1"), 64, [1, 1], 1, 0)?;
        let five = self.layer(x, &of("branch5x5_1"), 48, [1, 1], 1, 0)?;
        let five = self.layer(five, &of("branch5x5_2"), 64, [5, 5], 1, 2)?;
        let three = self.layer(x, &of("branch3x3dbl_1"), 64, [1, 1], 1, 0)?;
        let three = self.layer(three, &of("branch3x3dbl_2"), 96, [3, 3], 1, 1)?;
        let three = self.layer(three, &of("branch3x3dbl_3"), 96, [3, 3], 1, 1)?;
        let pool = self.mean_pool(x)?;
        let pool = self.layer(pool, &of("branch_pool"), pooled, [1, 1], 1, 0)?;
        self.join(&[one, five, three, pool])
    }

    /// InceptionB of torchvision, from 35×35 to 17×17 pixels.
    fn block_b(&mut self, x: Var, name: &str) -> Result<Var> {
        let of = |part: &str| format!("{name}.{part}");
        let three = self.layer(x, &of("branch3x3"), 384, [3, 3], 2, 0)?;
        let twice = self.layer(x, &of("branch3x3dbl_1"), 64, [1, 1], 1, 0)?;
        let twice = self.layer(twice, &of("branch3x3dbl_2"), 96, [3, 3], 1, 1)?;
        let twice = self.layer(twice, &of("branch3x3dbl_3"), 96, [3, 3], 2, 0)?;
        let pool = self.max_pool(x, 2, 0)?;
        self.join(&[three, twice, pool])
    }

    /// InceptionC of torchvision, at 17×17 pixels.
    fn block_c(&mut self, x: Var, name: &str, width: usize) -> Result<Var> {
        let of = |part: &str| format!("{name}.{part}");
        let one = self.layer(x, &of("branch1x1"), 192, [1, 1], 1, 0)?;
        let seven = self.layer(x, &of("branch7x7_1"), width, [1, 1], 1, 0)?;
        let seven = self.asymmetric(seven, &of("branch7x7_2"), width, ROW7)?;
        let seven = self.asymmetric(seven, &of("branch7x7_3"), 192, COLUMN7)?;
        let mut twice = self.layer(x, &of("branch7x7dbl_1"), width, [1, 1], 1, 0)?;
        for (part, k, filter) in
            [("2", width, COLUMN7), ("3", width, ROW7), ("4", width, COLUMN7), ("5", 192, ROW7)]
        {
            twice = self.asymmetric(twice, &of(&format!("branch7x7dbl_{part}")), k, filter)?;
        }
        let pool = self.mean_pool(x)?;
        let pool = self.layer(pool, &of("branch_pool"), 192, [1, 1], 1, 0)?;
        self.join(&[one, seven, twice, pool])
    }

    /// InceptionD of torchvision, from 17×17 to 8×8 pixels.
    fn block_d(&mut self, x: Var, name: &str) -> Result<Var> {
        let of = |part: &str| format!("{name}.{part}");
        let three = self.layer(x, &of("branch3x3_1"), 192, [1, 1], 1, 0)?;
        let three = self.layer(three, &of("branch3x3_2"), 320, [3, 3], 2, 0)?;
        let seven = self.layer(x, &of("branch7x7x3_1"), 192, [1, 1], 1, 0)?;
        let seven = self.asymmetric(seven, &of("branch7x7x3_2"), 192, ROW7)?;
        let seven = self.asymmetric(seven, &of("branch7x7x3_3"), 192, COLUMN7)?;
        let seven = self.layer(seven, &of("branch7x7x3_4"), 192, [3, 3], 2, 0)?;
        let pool = self.max_pool(x, 2, 0)?;
        self.join(&[three, seven, pool])
    }

    /// InceptionE of torchvision, at 8×8 pixels; its pooling takes the maximum or the mean.
    fn block_e(&mut self, x: Var, name: &str, max: bool) -> Result<Var> {
        let of = |part: &str| format!("{name}.{part}");
        let one = self.layer(x, &of("branch1x1"), 320, [1, 1], 1, 0)?;
        let three = self.layer(x, &of("branch3x3_1"), 384, [1, 1], 1, 0)?;
        let three_a = self.asymmetric(three, &of("branch3x3_2a"), 384, ROW3)?;
        let three_b = self.asymmetric(three, &of("branch3x3_2b"), 384, COLUMN3)?;
        let twice = self.layer(x, &of("branch3x3dbl_1"), 448, [1, 1], 1, 0)?;
        let twice = self.layer(twice, &of("branch3x3dbl_2"), 384, [3, 3], 1, 1)?;
        let twice_a = self.asymmetric(twice, &of("branch3x3dbl_3a"), 384, ROW3)?;
        let twice_b = self.asymmetric(twice, &of("branch3x3dbl_3b"), 384, COLUMN3)?;
        let pool = if max { self.max_pool(x, 1, 1)? } else { self.mean_pool(x)? };
        let pool = self.layer(pool, &of("branch_pool"), 192, [1, 1], 1, 0)?;
        self.join(&[one, three_a, three_b, twice_a, twice_b, pool])
    }
}
