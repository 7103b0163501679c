//! Comparisons with the `image` crate, which wraps the same decoders and encoders.

use super::write::GIF_SPEED;
use super::*;
use image::{DynamicImage, ImageFormat, ImageReader};

/// The file decoded by the `image` crate.
fn theirs(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap();
    reader.decode().map_err(|e| e.to_string())
}

fn ours(bytes: &[u8]) -> Result<([u32; 2], Pixel, Vec<u8>), String> {
    let decoder = Decoder::new(Format::of(bytes).ok_or("unknown")?, bytes, 1 << 20)?;
    let (size, pixel) = (decoder.size, decoder.pixel);
    let mut out = vec![0; decoder.total() as usize];
    decoder.read(&mut out)?;
    Ok((size, pixel, out))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Checks that both decoders return equal pixels, or that both fail.
fn agree(bytes: &[u8]) {
    let (Ok((size, pixel, out)), Ok(image)) = (ours(bytes), theirs(bytes)) else {
        assert_eq!(ours(bytes).is_err(), theirs(bytes).is_err(), "{:?}", theirs(bytes).err());
        return;
    };
    assert_eq!(size, [image.height(), image.width()]);
    let color = image.color();
    assert_eq!(pixel.bytes(), usize::from(color.bytes_per_pixel()));
    assert_eq!((pixel.coloured, pixel.alpha), (color.has_color(), color.has_alpha()));
    if pixel.deep {
        let wide: Vec<u8> = image
            .as_bytes()
            .as_chunks()
            .0
            .iter()
            .flat_map(|b| u16::from_ne_bytes(*b).to_be_bytes())
            .collect();
        assert_eq!(out, wide);
    } else {
        assert_eq!(out, image.as_bytes());
    }
}

#[test]
fn files_are_decoded_as_by_the_image_crate() {
    let colours = image::RgbaImage::from_fn(13, 9, |x, y| {
        image::Rgba([(x * 19) as u8, (y * 28) as u8, (x * y) as u8, if x < 3 { 255 } else { (y * 20) as u8 }])
    });
    let all = DynamicImage::from(colours);
    for image in [
        all.to_luma8().into(),
        all.to_luma_alpha8().into(),
        all.to_rgb8().into(),
        all.clone(),
        DynamicImage::from(all.to_luma16()),
        all.to_luma_alpha16().into(),
        all.to_rgb16().into(),
        all.to_rgba16().into(),
    ] {
        let png = encoded(&image, ImageFormat::Png);
        agree(&png);
        for n in (0..png.len()).step_by(5) {
            agree(&png[..n]);
        }
    }
    for image in [DynamicImage::from(all.to_luma8()), all.to_rgb8().into()] {
        agree(&encoded(&image, ImageFormat::Jpeg));
    }
    agree(&encoded(&all, ImageFormat::Gif));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if Format::of(&bytes).is_some() {
            println!("{}", path.display());
            agree(&bytes);
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
}

/// Frames inside, partly outside and outside of the canvas.
#[test]
fn frames_of_a_gif_are_placed_on_the_canvas() {
    for (left, top, w, h) in
        [(0, 0, 4, 3), (1, 1, 2, 2), (2, 1, 4, 5), (9, 0, 2, 2), (0, 9, 2, 2), (0, 1, 4, 1)]
    {
        let mut encoder = gif::Encoder::new(Vec::new(), 4, 3, &[]).unwrap();
        let pixels: Vec<u8> = (0..w as usize * h as usize * 3).map(|i| (i * 7 % 251) as u8).collect();
        let mut frame = gif::Frame::from_rgb(w, h, &pixels);
        (frame.left, frame.top) = (left, top);
        encoder.write_frame(&frame).unwrap();
        agree(&encoder.into_inner().unwrap());
    }
}

#[test]
fn pictures_are_encoded_as_by_the_image_crate() {
    let mut picture = Picture::filled([7, 11], [240, 240, 236]);
    (0..60).for_each(|i| picture.set(i * 3 % 8, i * 5 % 12, [i as u8, 3 * i as u8, 255 - i as u8]));
    let image = image::RgbImage::from_raw(11, 7, picture.bytes().to_vec()).unwrap();
    assert_eq!(picture.pixel(3, 5), Some(image.get_pixel(5, 3).0));
    assert_eq!((picture.pixel(7, 0), picture.pixel(0, 11)), (None, None));
    let image = DynamicImage::from(image);
    assert_eq!(picture.to_png().unwrap(), encoded(&image, ImageFormat::Png));
    let mut animation = Animation::new([7, 11]).unwrap();
    animation.add(&picture, 10).unwrap();
    assert!(animation.add(&Picture::filled([7, 10], [0; 3]), 10).is_err());
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
    encoder.set_repeat(image::codecs::gif::Repeat::Infinite).unwrap();
    let delay = image::Delay::from_numer_denom_ms(100, 1);
    encoder.encode_frame(image::Frame::from_parts(image.into_rgba8(), 0, 0, delay)).unwrap();
    drop(encoder);
    assert_eq!(animation.finish().unwrap(), bytes);
    assert!(Animation::new([70_000, 3]).is_err());
}

#[test]
fn formats_are_named_as_by_the_image_crate() {
    for start in MAGIC
        .iter()
        .map(|(b, _)| b.to_vec())
        .chain([b"RIFF1234WEBPVP8".to_vec(), b"\0\0\0 ftypavif".to_vec()])
    {
        let want = image::guess_format(&start).ok().map(|f| format!("{f:?}"));
        assert_eq!(name(&start).map(str::to_owned), want, "{start:?}");
    }
    assert_eq!((name(b""), name(b"RIFF1234WAVE")), (None, None));
}
