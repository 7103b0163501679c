//! Encoders of pictures: PNG files and animated GIFs.

/// Speed of the colour quantiser, from 1 (best) to 30 (fastest). Frames of up to 256 colours are encoded exactly.
pub(super) const GIF_SPEED: i32 = 10;

/// A picture: RGB, 8 bits per channel, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    size: [u32; 2],
    bytes: Vec<u8>,
}

impl Picture {
    /// A picture of a single colour; `size` is [height, width].
    pub fn filled(size: [u32; 2], colour: [u8; 3]) -> Self {
        let pixels = size[0] as usize * size[1] as usize;
        Self { size, bytes: colour.repeat(pixels) }
    }

    /// Height and width.
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Height × width × 3 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The colour in row `y` and column `x`; `None` outside the picture.
    pub fn pixel(&self, y: u32, x: u32) -> Option<[u8; 3]> {
        self.bytes.get(self.place(y, x)?..)?.first_chunk().copied()
    }

    /// Sets the colour in row `y` and column `x`; does nothing outside the picture.
    pub fn set(&mut self, y: u32, x: u32, colour: [u8; 3]) {
        if let Some(at) = self.place(y, x)
            && let Some(pixel) = self.bytes.get_mut(at..at + 3)
        {
            pixel.copy_from_slice(&colour);
        }
    }

    fn place(&self, y: u32, x: u32) -> Option<usize> {
        let inside = y < self.size[0] && x < self.size[1];
        inside.then(|| (y as usize * self.size[1] as usize + x as usize) * 3)
    }

    /// Encodes the picture as a PNG file.
    ///
    /// # Errors
    /// The encoder's message, for an empty picture.
    pub fn to_png(&self) -> Result<Vec<u8>, String> {
        encode_png(self.size, true, &self.bytes)
    }
}

/// Encodes pixels of 8 bits as a PNG file: `size` is [height, width], with three bytes per pixel in `colour`, else one.
///
/// # Errors
/// The encoder's message, for an empty picture or a wrong number of bytes.
pub fn encode_png(size: [u32; 2], colour: bool, pixels: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let info = png::Info::with_size(size[1], size[0]);
    let encode = |bytes: &mut Vec<u8>| -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::with_info(bytes, info)?;
        encoder.set_color(if colour { png::ColorType::Rgb } else { png::ColorType::Grayscale });
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        encoder.write_header()?.write_image_data(pixels)
    };
    encode(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// An encoder of a GIF that loops forever; all frames have the same size.
pub struct Animation {
    size: [u32; 2],
    encoder: gif::Encoder<Vec<u8>>,
}

impl Animation {
    /// Starts a GIF of `size` = [height, width].
    ///
    /// # Errors
    /// A message, if a side exceeds 65,535 pixels.
    pub fn new(size: [u32; 2]) -> Result<Self, String> {
        let [h, w] = short(size)?;
        let encoder = gif::Encoder::new(Vec::new(), w, h, &[]);
        let mut encoder = encoder.map_err(|e| e.to_string())?;
        encoder.set_repeat(gif::Repeat::Infinite).map_err(|e| e.to_string())?;
        Ok(Self { size, encoder })
    }

    /// Adds a frame that is shown for `hundredths` of a second.
    ///
    /// # Errors
    /// A message, if its size differs from that of the animation.
    pub fn add(&mut self, picture: &Picture, hundredths: u16) -> Result<(), String> {
        if picture.size != self.size {
            return Err(format!("a frame is {:?}, the first one {:?}", picture.size, self.size));
        }
        let [h, w] = short(self.size)?;
        let mut frame = gif::Frame::from_rgb_speed(w, h, &picture.bytes, GIF_SPEED);
        (frame.delay, frame.dispose) = (hundredths, gif::DisposalMethod::Background);
        self.encoder.write_frame(&frame).map_err(|e| e.to_string())
    }

    /// Returns the file.
    ///
    /// # Errors
    /// The encoder's message.
    pub fn finish(self) -> Result<Vec<u8>, String> {
        self.encoder.into_inner().map_err(|e| e.to_string())
    }
}

fn short(size: [u32; 2]) -> Result<[u16; 2], String> {
    match size.map(u16::try_from) {
        [Ok(h), Ok(w)] => Ok([h, w]),
        _ => Err(format!("a GIF of {}×{} pixels is too large", size[0], size[1])),
    }
}
