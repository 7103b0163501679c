//! The instruction set that the CPU backends use, chosen at run time.
//!
//! Invariant: a `Simd` other than `Portable` exists only on a machine that has its instructions, and has `bf16` set
//! only if it has those too; this makes the calls in `multiversion!` and in the convolutions sound.

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd {
    level: Level,
    /// AVX512_BF16 besides [`Level::Avx512`].
    bf16: bool,
}

/// The levels that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The instructions that the compilation target guarantees.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
}

impl Simd {
    /// The best level that this machine supports, at most `limit`.
    pub fn detect(limit: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 && limit >= Level::Avx512 {
                return Self { level: Level::Avx512, bf16: is_x86_feature_detected!("avx512bf16") };
            }
            if avx2 && limit >= Level::Avx2 {
                return Self { level: Level::Avx2, bf16: false };
            }
        }
        let _ = limit;
        Self { level: Level::Portable, bf16: false }
    }

    /// The level.
    pub fn level(self) -> Level {
        self.level
    }

    /// Whether there are instructions for products of bf16 (AVX512_BF16); without them such products are emulated.
    pub fn bf16(self) -> bool {
        self.bf16
    }

    /// This level, without instructions for products of bf16.
    #[cfg(test)]
    pub(crate) fn without_bf16(self) -> Self {
        Self { bf16: false, ..self }
    }
}

/// The number types that the CPU backends are generic over.
pub trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + core::fmt::Debug
    + bytemuck::Pod
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + core::ops::Neg<Output = Self>
    + core::ops::AddAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Nearest value to `x`.
    fn of(x: f64) -> Self;
    /// Converts to float64.
    fn to_f64(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// ln x.
    fn ln(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// The larger of both; a NaN in `self` is kept.
    fn larger(self, other: Self) -> Self;
    /// Clamps to [lo, hi]; NaN stays NaN.
    fn clip(self, lo: Self, hi: Self) -> Self;
    /// The slice itself if this type is float32: the way to the hand-vectorised code.
    fn f32s(x: &[Self]) -> Option<&[f32]> {
        bytemuck::try_cast_slice(x)
            .ok()
            .filter(|_| core::any::TypeId::of::<Self>() == core::any::TypeId::of::<f32>())
    }
    /// As [`Real::f32s`], mutable.
    fn f32s_mut(x: &mut [Self]) -> Option<&mut [f32]> {
        if core::any::TypeId::of::<Self>() == core::any::TypeId::of::<f32>() {
            bytemuck::try_cast_slice_mut(x).ok()
        } else {
            None
        }
    }
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as Self
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                if other > self { other } else { self }
            }
            #[inline(always)]
            fn clip(self, lo: Self, hi: Self) -> Self {
                let x = if self < lo { lo } else { self };
                if x > hi { hi } else { x }
            }
        }
    };
}
real!(f32);
real!(f64);

/// Compiles one generic body for each [`Level`] and calls the one for `simd`.
///
/// The body must be plain Rust on slices: the compiler vectorises it for each level. It should not use
/// `mul_add`, so that all levels give the same bits.
macro_rules! multiversion {
    ($(#[$m:meta])* $vis:vis fn $name:ident<T: Real>($($a:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block) => {
        $(#[$m])*
        $vis fn $name<T: $crate::cpu::simd::Real>(simd: $crate::cpu::simd::Simd, $($a: $t),*) $(-> $r)? {
            #[inline(always)]
            fn body<T: $crate::cpu::simd::Real>($($a: $t),*) $(-> $r)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<T: $crate::cpu::simd::Real>($($a: $t),*) $(-> $r)? {
                body::<T>($($a),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<T: $crate::cpu::simd::Real>($($a: $t),*) $(-> $r)? {
                body::<T>($($a),*)
            }

            match simd.level() {
                // SAFETY: a `Simd` of this level exists only where detection found these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx512 => unsafe { avx512::<T>($($a),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx2 => unsafe { avx2::<T>($($a),*) },
                _ => body::<T>($($a),*),
            }
        }
    };
}
pub(crate) use multiversion;
