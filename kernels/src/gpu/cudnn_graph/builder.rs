//! Building a graph of operations for cuDNN: tensors, convolutions, pointwise operations and reductions.
//!
//! What must hold: what an operation refers to lives as long as the graph.

use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use cudarc::cudnn::sys::{self, cudnnPointwiseMode_t as Mode};

use super::descriptor::Descriptor;
use crate::conv_shape::ConvShape;
use crate::dtype::Float;
use crate::gpu::cudnn::data_type;
use crate::gpu::error::GpuError;

/// The type that operations compute in.
const COMPUTE: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

/// A tensor of a graph under construction: its index, which is also its unique id for cuDNN.
#[derive(Clone, Copy)]
pub(super) struct Tensor(usize);

/// A graph under construction.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) operations: Vec<Descriptor>,
    /// What operations refer to besides tensors.
    parts: Vec<Descriptor>,
    tensors: Vec<Descriptor>,
    /// Ids of the tensors that are in memory, in the order in which they were added.
    pub(super) in_memory: Vec<i64>,
}

impl Builder {
    /// Adds an N×C×H×W tensor stored in the order N, H, W, C: one in memory, or a virtual one, which exists only inside
    /// the graph.
    pub(super) fn tensor(
        &mut self,
        [n, h, w, c]: [usize; 4],
        float: Float,
        is_virtual: bool,
    ) -> Result<Tensor, GpuError> {
        let id = self.tensors.len();
        let strides = [h * w * c, 1, w * c, c].map(|d| d as i64);
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id as i64])?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[data_type(float)])?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &[n, c, h, w].map(|d| d as i64))?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16i64])?
            .with(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[is_virtual])?;
        self.tensors.push(descriptor.finish("a tensor of a graph")?);
        if !is_virtual {
            self.in_memory.push(id as i64);
        }
        Ok(Tensor(id))
    }

    /// Adds a float32 number that the host gives with each run, as a tensor of one value.
    pub(super) fn number(&mut self) -> Result<Tensor, GpuError> {
        let id = self.tensors.len();
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id as i64])?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[data_type(Float::F32)])?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &[1i64; 4])?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, &[1i64; 4])?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[4i64])?
            .with(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[false])?
            .with(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[true])?;
        self.tensors.push(descriptor.finish("a number of a graph")?);
        self.in_memory.push(id as i64);
        Ok(Tensor(id))
    }

    fn raw(&self, tensor: Tensor) -> [sys::cudnnBackendDescriptor_t; 1] {
        [self.tensors[tensor.0].raw]
    }

    fn part(&mut self, descriptor: Descriptor) -> [sys::cudnnBackendDescriptor_t; 1] {
        self.parts.push(descriptor);
        [self.parts[self.parts.len() - 1].raw]
    }

    fn geometry(&mut self, shape: ConvShape) -> Result<[sys::cudnnBackendDescriptor_t; 1], GpuError> {
        let two = |n: usize| [n as i64; 2];
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[COMPUTE])?
            .with(
                Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                &[sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION],
            )?
            .with(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?
            .with(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &two(1))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &two(shape.stride))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &two(shape.pad))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &two(shape.pad))?
            .finish("a convolution of a graph")?;
        Ok(self.part(descriptor))
    }

    /// Adds the convolution y = x ∗ w + beta·y.
    pub(super) fn convolution(
        &mut self,
        shape: ConvShape,
        [x, w, y]: [Tensor; 3],
        beta: f32,
    ) -> Result<(), GpuError> {
        let geometry = self.geometry(shape)?;
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &geometry)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &self.raw(w))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &self.raw(y))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1.0f32])?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, &[beta])?;
        self.operations.push(descriptor.finish("a convolution in a graph")?);
        Ok(())
    }

    /// Adds the gradient of a convolution with respect to its input: dx from dy and w, plus beta·dx.
    pub(super) fn input_grad(
        &mut self,
        shape: ConvShape,
        [dy, w, dx]: [Tensor; 3],
        beta: f32,
    ) -> Result<(), GpuError> {
        let geometry = self.geometry(shape)?;
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, &geometry)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, &self.raw(dy))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, &self.raw(w))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, &self.raw(dx))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, &[1.0f32])?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, &[beta])?;
        self.operations.push(descriptor.finish("an input gradient in a graph")?);
        Ok(())
    }

    /// Adds the gradient of a convolution with respect to its filters: dw from x and dy, plus beta·dw.
    pub(super) fn weight_grad(
        &mut self,
        shape: ConvShape,
        [x, dy, dw]: [Tensor; 3],
        beta: f32,
    ) -> Result<(), GpuError> {
        let geometry = self.geometry(shape)?;
        let descriptor =
            Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR)?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, &geometry)?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, &self.raw(x))?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, &self.raw(dy))?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, &self.raw(dw))?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, &[1.0f32])?
                .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, &[beta])?;
        self.operations.push(descriptor.finish("a filter gradient in a graph")?);
        Ok(())
    }

    fn pointwise(
        &mut self,
        mode: Mode,
        leak: Option<f64>,
        tensors: &[(Name, Tensor)],
    ) -> Result<(), GpuError> {
        let mut function = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?
            .with(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[COMPUTE])?;
        if let Some(leak) = leak {
            function = function.with(Name::CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, &[leak])?;
        }
        let function = self.part(function.finish("a pointwise function of a graph")?);
        let mut descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &function)?;
        for (name, tensor) in tensors {
            descriptor = descriptor.with(*name, &self.raw(*tensor))?;
        }
        self.operations.push(descriptor.finish("a pointwise operation in a graph")?);
        Ok(())
    }

    /// Adds y = x + b (`add`) or y = x·b; b may have one value per channel.
    pub(super) fn combine(&mut self, add: bool, [x, b, y]: [Tensor; 3]) -> Result<(), GpuError> {
        let mode = if add { Mode::CUDNN_POINTWISE_ADD } else { Mode::CUDNN_POINTWISE_MUL };
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y),
        ];
        self.pointwise(mode, None, &tensors)
    }

    /// Adds the leaky ReLU: y = x, or leak·x where x is negative.
    pub(super) fn leaky(&mut self, leak: f64, [x, y]: [Tensor; 2]) -> Result<(), GpuError> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y),
        ];
        self.pointwise(Mode::CUDNN_POINTWISE_RELU_FWD, Some(leak), &tensors)
    }

    /// Adds the gradient of [`Builder::leaky`]: dx from dy and x.
    pub(super) fn leaky_grad(&mut self, leak: f64, [dy, x, dx]: [Tensor; 3]) -> Result<(), GpuError> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx),
        ];
        self.pointwise(Mode::CUDNN_POINTWISE_RELU_BWD, Some(leak), &tensors)
    }

    /// Adds y = Σ x over the axes in which y has length 1.
    pub(super) fn sum(&mut self, [x, y]: [Tensor; 2]) -> Result<(), GpuError> {
        let reduction = Descriptor::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?
            .with(
                Name::CUDNN_ATTR_REDUCTION_OPERATOR,
                &[sys::cudnnReduceTensorOp_t::CUDNN_REDUCE_TENSOR_ADD],
            )?
            .with(Name::CUDNN_ATTR_REDUCTION_COMP_TYPE, &[COMPUTE])?;
        let reduction = self.part(reduction.finish("a reduction of a graph")?);
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &reduction)?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, &self.raw(y))?;
        self.operations.push(descriptor.finish("a reduction in a graph")?);
        Ok(())
    }

    /// Adds batch norm in training mode: y = (x − mean)·inverse·scale + bias, mean and inverse = 1/√(variance + epsilon) over
    /// all but the channels.
    pub(super) fn batch_norm(
        &mut self,
        [x, scale, bias, epsilon]: [Tensor; 4],
        [y, mean, inverse]: [Tensor; 3],
    ) -> Result<(), GpuError> {
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_MODE, &[sys::cudnnBackendNormMode_t::CUDNN_BATCH_NORM])?
            .with(
                Name::CUDNN_ATTR_OPERATION_NORM_FWD_PHASE,
                &[sys::cudnnBackendNormFwdPhase_t::CUDNN_NORM_FWD_TRAINING],
            )?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, &self.raw(mean))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, &self.raw(inverse))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, &self.raw(scale))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, &self.raw(bias))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, &self.raw(epsilon))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, &self.raw(y))?;
        self.operations.push(descriptor.finish("a batch norm in a graph")?);
        Ok(())
    }

    /// Adds the gradients of [`Builder::batch_norm`] with respect to x, scale and bias.
    pub(super) fn batch_norm_grad(
        &mut self,
        [x, dy, scale, mean, inverse]: [Tensor; 5],
        [dx, dscale, dbias]: [Tensor; 3],
    ) -> Result<(), GpuError> {
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_MODE, &[sys::cudnnBackendNormMode_t::CUDNN_BATCH_NORM])?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, &self.raw(mean))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, &self.raw(inverse))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, &self.raw(dy))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, &self.raw(scale))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, &self.raw(dscale))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, &self.raw(dbias))?
            .with(Name::CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, &self.raw(dx))?;
        self.operations.push(descriptor.finish("a batch norm's gradient in a graph")?);
        Ok(())
    }
}
