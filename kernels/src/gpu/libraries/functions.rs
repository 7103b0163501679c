//! Functions of a library by their types, taken from the copy that was found and checked, whatever other copies the
//! loader knows.
//!
//! What must hold: what returns a status returns it as an integer, so that one which a later version adds is an error
//! with its number.

use crate::gpu::error::NoCuda;

use super::{Handle, Id, libraries};

/// Declares the type `Functions` with the functions of a library, and `functions()`, which finds them once.
macro_rules! functions {
    ($id:expr; $($name:ident: fn($($arg:ty),* $(,)?) $(-> $result:ty)?;)+) => {
        /// The functions, by their names in the library.
        #[allow(non_snake_case)]
        pub(in crate::gpu) struct Functions {
            $(pub(in crate::gpu) $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)+
        }

        impl Functions {
            /// # Safety
            /// The types must be those of the library's functions.
            unsafe fn of(library: &$crate::gpu::libraries::Handle) -> Option<Self> {
                // SAFETY: the caller guarantees the types.
                unsafe { Some(Self { $($name: library.function(stringify!($name))?,)+ }) }
            }

            /// Their names.
            #[cfg(test)]
            pub(in crate::gpu) const NAMES: &[&str] = &[$(stringify!($name)),+];
        }

        impl std::fmt::Debug for Functions {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("Functions")
            }
        }

        /// The functions of this process's copy of the library.
        ///
        /// # Errors
        /// Why the library cannot be used.
        pub(in crate::gpu) fn functions() -> Result<&'static Functions, $crate::gpu::error::NoCuda> {
            static FUNCTIONS: std::sync::OnceLock<Option<Functions>> = std::sync::OnceLock::new();
            let library = $crate::gpu::libraries::checked($id)?;
            // SAFETY: the types are those of the library's header, with statuses as integers.
            let found = FUNCTIONS.get_or_init(|| unsafe { Functions::of(library) });
            found.as_ref().ok_or_else(|| $crate::gpu::libraries::incomplete($id))
        }
    };
}
pub(in crate::gpu) use functions;

/// A library that was found and checked.
///
/// # Errors
/// Why it cannot be used.
pub(in crate::gpu) fn checked(id: Id) -> Result<&'static Handle, NoCuda> {
    libraries().require(id)?.handle.as_ref().ok_or_else(|| incomplete(id))
}

/// The error for a library that passed its check and still lacks a function.
pub(in crate::gpu) fn incomplete(id: Id) -> NoCuda {
    NoCuda::Unusable {
        library: "a CUDA library",
        path: format!("{id:?}"),
        reason: "a function is missing".to_owned(),
        advice: "Install a complete one".to_owned(),
    }
}
