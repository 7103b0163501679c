use super::*;

#[test]
fn without_a_device_every_check_is_skipped() {
    let why = NoCuda::NoSuchDevice { ordinal: 3, count: 1 };
    let records: Vec<Record> = CHECKS.iter().map(|&(name, check)| run_one(name, check, Err(&why))).collect();
    assert_eq!(records.len(), CHECKS.len());
    assert!(records.iter().all(|r| r.status == Outcome::Skipped && r.detail.contains("no GPU")));
}

#[test]
fn wrong_values_do_not_pass() {
    assert!(compare("", &[1.0, f32::INFINITY], &[1.0, f64::INFINITY], 1.0, 1e-6).is_ok());
    for wrong in [f32::NAN, f32::INFINITY, 1.1] {
        assert!(compare("", &[wrong], &[1.0], 1.0, 1e-6).is_err(), "{wrong}");
    }
    assert!(compare("", &[1.0], &[f64::NAN], 1.0, 1e-6).is_err());
    assert!(compare("", &[], &[1.0], 1.0, 1e-6).is_err());
}

/// On a machine with a device, the device must pass.
#[test]
fn the_device_computes_what_it_should() {
    match kernels::gpu::open(0) {
        Err(why) => println!("skipped: {why}"),
        Ok(gpu) => {
            for record in CHECKS.iter().map(|&(name, check)| run_one(name, check, Ok(&gpu))) {
                println!("{}: {} ({})", record.name, record.status.as_str(), record.detail);
                assert_ne!(record.status, Outcome::Failed, "{}: {}", record.name, record.detail);
            }
        }
    }
}
