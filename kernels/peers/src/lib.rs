//! Nothing but comparisons, in `tests/`: the kernels timed beside other libraries, which only this crate has to build.
