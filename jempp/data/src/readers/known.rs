//! MD5 checksums of published data sets.
//!
//! Source: the web pages of the data sets' authors, and torchvision.

/// A published file.
pub(super) struct Known {
    /// The MD5 in hexadecimal.
    pub md5: &'static str,
    /// The name.
    pub name: &'static str,
}

const fn k(md5: &'static str, name: &'static str) -> Known {
    Known { md5, name }
}

/// All known files.
pub(super) const KNOWN: &[Known] = &[
    k("c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-binary.tar.gz"),
    k("c58f30108f718f92721af3b95e74349a", "cifar-10-python.tar.gz"),
    k("03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary.tar.gz"),
    k("eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python.tar.gz"),
    k("e26dedcc434d2e4c54c9b2d4a06d8373", "SVHN train_32x32.mat"),
    k("eb5a983be6a315427106f1b164d9cef3", "SVHN test_32x32.mat"),
    k("a93ce644f1a588dc4d68dda5feec44a7", "SVHN extra_32x32.mat"),
    k("f68b3c2dcbeaaa9fbdd348bbdeb94873", "MNIST train-images"),
    k("d53e105ee54ea40749a09fcbcd1e9432", "MNIST train-labels"),
    k("9fb629c4189551a2d022fa330f9573f3", "MNIST t10k-images"),
    k("ec29112dd5afa0611ce80d1b7f02629c", "MNIST t10k-labels"),
    k("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "Fashion-MNIST train-images"),
    k("25c81989df183df01b3e8a0aad5dffbe", "Fashion-MNIST train-labels"),
    k("bef4ecab320f06d8554ea6380940ec79", "Fashion-MNIST t10k-images"),
    k("bb300cfdad3c16e7a12a480ee83cd310", "Fashion-MNIST t10k-labels"),
];

/// Describes, for the user, whether files with these checksums are the published ones.
pub(super) fn verdict(sums: &[String]) -> String {
    let names: Vec<Option<&str>> =
        sums.iter().map(|s| KNOWN.iter().find(|k| k.md5 == s).map(|k| k.name)).collect();
    match names.as_slice() {
        [] => String::new(),
        [Some(name)] => format!("{name} as published"),
        all if all.iter().all(Option::is_some) => {
            let set = all[0].unwrap_or_default().split(' ').next().unwrap_or_default();
            format!("{set}, all {} files as published", all.len())
        }
        [None] => format!("not a published archive (MD5 {})", sums[0]),
        all => {
            let known = all.iter().flatten().count();
            format!("{known} of {} files as published", all.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_described() {
        let sum = |i: usize| KNOWN[i].md5.to_string();
        assert!(KNOWN.iter().all(|k| k.md5.len() == 32 && k.md5.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_eq!(verdict(&[sum(0)]), "cifar-10-binary.tar.gz as published");
        assert_eq!(verdict(&[sum(4), sum(5)]), "SVHN, all 2 files as published");
        assert_eq!(verdict(&[sum(4), "x".into()]), "1 of 2 files as published");
        assert_eq!(verdict(&["abc".into()]), "not a published archive (MD5 abc)");
        assert_eq!(verdict(&[]), "");
    }
}
