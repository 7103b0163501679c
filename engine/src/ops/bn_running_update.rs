//! Running statistics of many tensors at once, updated with the statistics of one pass after another.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, ensure, real,
};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::bn_running_update::Fold;
use kernels::ops::bn_running_update::{self, cuda};
use std::sync::Arc;

/// Statistics that [`BnRunningUpdate`] folds into one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// Factor of each group's statistics: n/(n−1) for variances, else 1.
    pub correct: Vec<f64>,
    /// Whether the statistics lack something, which is an input too.
    pub offset: bool,
}

/// New running statistics of any number of tensors. Inputs: of each the old ones `r[C]`, the statistics `s[G, C]` of groups,
/// an accumulator `[C]` if the order has [`Fold::Steps`], and if `offset` what statistics and accumulator lack, `[C]`.
/// Outputs: of each the new ones and, if there is an accumulator, that set to zero. Running statistics are constants: gradients
/// stop here.
#[derive(Clone, Debug)]
pub struct BnRunningUpdate {
    momentum: f64,
    order: Vec<Fold>,
    tensors: Vec<Tracked>,
    aliases: Vec<(usize, usize)>,
}

impl BnRunningUpdate {
    /// `momentum`: the weight of a new value, as in PyTorch; `order`: that in which passes update the statistics.
    pub fn new(momentum: f64, order: Vec<Fold>, tensors: Vec<Tracked>) -> Self {
        let mut op = Self { momentum, order, tensors, aliases: Vec::new() };
        let acc = op.steps() > 0;
        let of = |(_, i, o)| [(o, i)].into_iter().chain(acc.then_some((o + 1, i + 2)));
        op.aliases = op.places().flat_map(of).collect();
        op
    }

    fn steps(&self) -> usize {
        self.order.iter().filter(|f| matches!(f, Fold::Steps(_))).count()
    }

    /// Each tensor with its first input and its first output.
    fn places(&self) -> impl Iterator<Item = (&Tracked, usize, usize)> {
        let acc = usize::from(self.steps() > 0);
        self.tensors.iter().scan((0, 0), move |(i, o), t| {
            let place = (t, *i, *o);
            *i += 2 + acc + usize::from(t.offset);
            *o += 1 + acc;
            Some(place)
        })
    }
}

impl Op for BnRunningUpdate {
    fn name(&self) -> &'static str {
        "bn_running_update"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        let steps = self.steps();
        ensure!(steps <= 1, "there are {steps} accumulators; one is allowed");
        let n = self.tensors.iter().map(|t| 2 + steps + usize::from(t.offset)).sum();
        check_inputs(x, n..=n, &[])?;
        let mut out = Vec::new();
        for (t, i, _) in self.places() {
            let (r, s) = (&x[i], &x[i + 1]);
            ensure!(
                r.rank() == 1 && s.rank() == 2 && s.last() == r.len(),
                "running statistics {r} and group statistics {s} do not fit each other"
            );
            ensure!(t.correct.len() == s.first(), "{} corrections for {s}", t.correct.len());
            let known = |f: &Fold| !matches!(f, Fold::Group(g) if *g >= s.first());
            ensure!(self.order.iter().all(known), "the order {:?} names groups that {s} lacks", self.order);
            let more = &x[i + 2..i + 2 + steps + usize::from(t.offset)];
            ensure!(
                more.iter().all(|a| a == r),
                "accumulator or offset and running statistics differ in shape"
            );
            out.extend(vec![*r; 1 + steps]);
        }
        Ok(out)
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &self.aliases
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        let tensors = self.tensors.len();
        GpuWork::own(cuda::launches(tensors) as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (op, steps) = (self.clone(), self.steps());
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            for (t, i, o) in op.places() {
                let (r, s, out) = (io.input_or_place::<T>(i, o)?, io.input::<T>(i + 1)?, io.output::<T>(o)?);
                let offset = if t.offset { Some(io.input::<T>(i + 2 + steps)?) } else { None };
                let cleared = if steps > 0 { Some(io.output::<T>(o + 1)?) } else { None };
                let acc = match &cleared {
                    Some(place) => Some(io.input_or_place::<T>(i + 2, o + 1)?.unwrap_or(&**place)),
                    None => None,
                };
                bn_running_update::cpu(op.momentum, &op.order, &t.correct, r, s, acc, offset, out);
                if let Some(cleared) = cleared {
                    cleared.fill(0.0);
                }
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let tensors = self.places().map(|(t, i, _)| cuda::Tensor {
            c: x[i].len(),
            correct: t.correct.clone(),
            offset: t.offset,
        });
        let tensors: Vec<_> = tensors.collect();
        let update = cuda::Update::new(gpu, self.momentum, &self.order, &tensors)?;
        let (op, steps) = (self.clone(), self.steps());
        cuda_kernel(gpu, 0, move |gpu, io| {
            let mut spans = Vec::new();
            for (t, i, o) in op.places() {
                for k in 0..2 + steps + usize::from(t.offset) {
                    spans.push(io.gpu_input(i + k)?);
                }
                for k in 0..=steps {
                    spans.push(io.gpu_output(o + k)?);
                }
            }
            Ok(update.run(gpu, &spans)?)
        })
    }
    fn vjp(
        &self,
        _: &mut Tape,
        _: &Node,
        _: &[Option<Var>],
        _: &GradRequest,
    ) -> crate::error::Result<Vec<Grad>> {
        Ok(Vec::new())
    }
}

pub(super) fn cases() -> Cases {
    let order = vec![Fold::Group(0), Fold::Steps(3), Fold::Group(1)];
    let of = |offset| Tracked { correct: vec![1.5, 1.0], offset };
    let op = BnRunningUpdate::new(0.3, order.clone(), vec![of(false)]);
    let go = move |t: &mut Tape, x: &[Var]| t.record(op.clone(), x);
    let many = move |t: &mut Tape, x: &[Var]| {
        t.record(BnRunningUpdate::new(0.3, order.clone(), vec![of(true), of(false)]), x)
    };
    let inputs: [(&[usize], F); 3] = [(&[7], F::Fixed), (&[2, 7], F::Fixed), (&[7], F::Fixed)];
    let wide: [(&[usize], F); 3] = [(&[301], F::Fixed), (&[2, 301], F::Fixed), (&[301], F::Fixed)];
    Cases {
        small: vec![
            Case::new("fold", &inputs, go.clone()),
            Case::new("an offset, and another tensor", &[&inputs[..], &inputs[2..], &wide].concat(), many),
        ],
        invalid: vec![
            Case::new("groups", &[(&[7], F::Fixed), (&[3, 7], F::Fixed), (&[7], F::Fixed)], go.clone()),
            Case::new("no accumulator", &inputs[..2], go.clone()),
        ],
        bench: vec![Case::new("fold", &[(&[640], F::Fixed), (&[2, 640], F::Fixed), (&[640], F::Fixed)], go)],
    }
}
