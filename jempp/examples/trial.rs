use engine::rng::Stream; use engine::Device; use jempp::config::Config; use jempp::data::{self, Augment, Loader}; use jempp::train::*;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let threads: usize = a[0].parse().unwrap(); let iters: usize = a[1].parse().unwrap();
    let c = Config::from_sources("digits", None, &a[2..]).unwrap();
    let (set, split) = data::load(&c.data).unwrap();
    let dev = Device::cpu(threads);
    let mut t = Trainer::new(&c, &dev, Some((&set, &split.train)), Options::default()).unwrap();
    println!("{:?}", t.footprint());
    let n = c.train.batch_size;
    let mut l1 = Loader::new(split.train.clone(), n, c.seed, Stream::ShuffleUnlabelled).unwrap();
    let mut l2 = Loader::new(split.train.clone(), n, c.seed, Stream::ShuffleLabelled).unwrap();
    let aug = Augment { pad: c.data.pad, flip: c.data.flip, sigma: c.data.sigma as f32 };
    let px = set.pixels(); let (mut x, mut y) = (vec![0f32; n*px], vec![0f32; n*px]); let mut lab = vec![0u16; n];
    let t0 = std::time::Instant::now();
    for i in 0..iters {
        let idx = l1.next_batch().to_vec(); aug.batch(&set, &idx, c.seed, Stream::AugmentUnlabelled, i as u32, &mut x).unwrap();
        let idx = l2.next_batch().to_vec(); aug.batch(&set, &idx, c.seed, Stream::AugmentLabelled, i as u32, &mut y).unwrap();
        set.labels_of(&idx, &mut lab).unwrap(); let labels: Vec<i32> = lab.iter().map(|l| *l as i32).collect();
        let lr = t.learning_rate(22);
        let m = t.step(&Batch { x_data: &x, x_labelled: &y, labels: &labels, chain_start: None }, lr).unwrap();
        if i % 100 == 0 || i + 1 == iters { println!("{i} {:.3} ce {:.3} gap {:.3} acc {:.3} {:.1}s", m.loss, m.ce, m.gap(), m.accuracy, t0.elapsed().as_secs_f64()); }
    }
    println!("{:.2} ms/iter", t0.elapsed().as_secs_f64() * 1e3 / iters as f64);
}
