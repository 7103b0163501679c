use jempp::*; fn main(){ let c=config::Config::preset("digits").unwrap(); let (s,sp)=data::load(&c.data).unwrap();
let idx:Vec<u32>=sp.train[..50].to_vec(); let mut x=eval::images(&s,&idx).unwrap(); let mut y=vec![0f32;50*64];
data::Augment{pad:1,flip:false,sigma:0.1}.batch(&s,&idx,1,engine::rng::Stream::AugmentUnlabelled,0,&mut y).unwrap(); x.extend(y);
grid::save_grid(std::path::Path::new("/work/tmp/real.png"),&x,s.size(),10).unwrap();}
