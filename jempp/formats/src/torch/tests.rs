//! Files that PyTorch wrote (`tests/interop/make_torch.py`).

use super::*;
use crate::container::TensorData;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch").join(name)).unwrap()
}

#[test]
fn values_of_every_type_and_view_are_pytorchs() {
    for name in ["values.pt", "values_legacy.pt"] {
        let all = tensors(&data(name), Path::new("x.pt")).unwrap();
        assert_eq!(all.len(), 17, "{name}");
        let get = |key: &str| all.iter().find(|t| t.name == key).unwrap();
        let floats = |key: &str, shape: &[usize], at: &[usize]| {
            let want = at.iter().map(|i| 0.25 * *i as f32 - 1.0).collect();
            let (tensor, shape) = (get(key), shape.to_vec());
            assert_eq!((&tensor.shape, &tensor.data), (&shape, &TensorData::F32(want)), "{name}: {key}");
        };
        let ints = |key: &str, want: &[i64]| {
            assert_eq!(get(key).data, TensorData::I64(want.to_vec()), "{name}: {key}");
        };
        let first = |n: usize| (0..n).collect::<Vec<_>>();
        floats("f32", &[2, 3], &first(6));
        floats("f64", &[3, 2], &first(6));
        floats("f16", &[5], &first(5));
        floats("bf16", &[5], &first(5));
        floats("scalar", &[], &[34]);
        floats("empty", &[0, 3], &[]);
        floats("parameter", &[2, 2], &first(4));
        for kind in ["i64", "i32", "i16", "i8"] {
            ints(kind, &[-5, -2, 1, 4]);
        }
        ints("u8", &[0, 1, 0]);
        ints("bool", &[0, 1, 0]);
        let turned: Vec<usize> = (0..24).map(|i| i % 4 * 6 + i / 4).collect();
        floats("transposed", &[6, 4], &turned);
        floats("rows", &[2, 6], &(6..18).collect::<Vec<_>>());
        floats("column", &[4], &[4, 10, 16, 22]);
        floats("channels_last", &[2, 3, 2, 2], &first(24));
    }
}
