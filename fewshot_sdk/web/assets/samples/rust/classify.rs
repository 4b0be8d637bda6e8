//! Classifies pictures with model.onnx:
//!   cargo run --release -- ../../model.onnx PICTURE...
use image::{DynamicImage, ImageDecoder, ImageReader};
use ort::{inputs, session::Session, value::Tensor};
use std::error::Error;

/// A picture as a person sees it: upright, 8 bits, on white where transparent; its shape and pixels.
fn read(path: &str) -> Result<([usize; 4], Vec<u8>), Box<dyn Error>> {
    let mut decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    if matches!(image, DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_)) {
        return Err("its numbers have no defined black and white".into());
    }
    image.apply_orientation(orientation);
    let wide = image.to_rgba16(); // 16 bits, of which the upper 8 are kept, as everywhere else
    let mut pixels = Vec::with_capacity(3 * (wide.width() * wide.height()) as usize);
    for pixel in wide.pixels() {
        let alpha = (pixel[3] >> 8) as u32;
        for channel in 0..3 {
            let level = (pixel[channel] >> 8) as u32;
            pixels.push(((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
        }
    }
    Ok(([1, wide.height() as usize, wide.width() as usize, 3], pixels))
}

fn classify(session: &mut Session, labels: &serde_json::Value, path: &str) -> Result<(), Box<dyn Error>> {
    let images = Tensor::from_array(read(path)?)?;
    let found = session.run(inputs!["images" => images])?;
    let label = found["label"].try_extract_tensor::<i64>()?.1[0] as usize;
    let known = found["known"].try_extract_tensor::<bool>()?.1[0];
    let probability = found["probabilities"].try_extract_tensor::<f32>()?.1[label];
    let name = if known { labels[label].as_str().unwrap_or("") } else { "unknown" };
    println!("{path}  {name}  {probability:.6}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: classify model.onnx PICTURE...")?;
    let mut session = Session::builder()?.commit_from_file(model)?;
    let stored = session.metadata()?.custom("fewshot_sdk").ok_or("the file names no labels")?;
    let labels = serde_json::from_str::<serde_json::Value>(&stored)?["labels"].take();
    for path in arguments {
        if let Err(error) = classify(&mut session, &labels, &path) {
            eprintln!("{path} cannot be read: {error}");
        }
    }
    Ok(())
}
