//! A picture as pixels.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::Scene;
use super::text::{FAMILY, REGULAR, SEMI_BOLD};
use crate::error::{Error, Result};

/// The bundled font and no other, so that a picture never depends on what is installed.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    FONTS
        .get_or_init(|| {
            let mut database = fontdb::Database::new();
            database.load_font_data(REGULAR.to_vec());
            database.load_font_data(SEMI_BOLD.to_vec());
            database.set_sans_serif_family(FAMILY);
            Arc::new(database)
        })
        .clone()
}

/// The picture as the bytes of a PNG file, `scale` pixels per unit of the scene.
///
/// # Errors
///
/// [`Error::Picture`] where the size in pixels is zero or too large to draw.
pub fn draw(scene: &Scene, scale: f64) -> Result<Vec<u8>> {
    const ACTION: &str = "draw a picture";
    let options = usvg::Options {
        fontdb: fonts(),
        font_family: FAMILY.to_owned(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(&scene.to_svg(), &options).map_err(Error::picture(ACTION))?;
    let [width, height] = [scene.width, scene.height].map(|length| (length * scale).round() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| Error::Picture {
        action: ACTION,
        reason: format!("{width}x{height} pixels cannot be drawn"),
    })?;
    let transform = Transform::from_scale(scale as f32, scale as f32);
    resvg::render(&tree, transform, &mut pixels.as_mut());
    pixels.encode_png().map_err(Error::picture(ACTION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Color, Label, Node, Paint, Rect};

    fn decode(bytes: &[u8]) -> image::RgbaImage {
        image::load_from_memory(bytes).unwrap().to_rgba8()
    }

    #[test]
    fn pixels_are_where_and_what_the_scene_says() {
        let red = Color::hex(0xff0000);
        let scene = Scene::new(
            20.0,
            10.0,
            vec![Node::rectangle(Rect::new(10.0, 0.0, 10.0, 10.0), Paint::fill(red))],
        );
        let pixels = decode(&scene.to_png(2.0).unwrap());
        assert_eq!(pixels.dimensions(), (40, 20));
        assert_eq!(pixels.get_pixel(5, 10).0, [255, 255, 255, 255]);
        assert_eq!(pixels.get_pixel(30, 10).0, [255, 0, 0, 255]);
    }

    #[test]
    fn both_weights_of_the_font_are_found() {
        let dark = |label: Label| {
            let pixels = decode(&Scene::new(120.0, 30.0, vec![label.into()]).to_png(1.0).unwrap());
            pixels.pixels().map(|pixel| 255 - u64::from(pixel.0[0])).sum::<u64>()
        };
        let regular = dark(Label::new("Hamburg", [5.0, 22.0], 20.0));
        let bold = dark(Label::new("Hamburg", [5.0, 22.0], 20.0).bold());
        assert!(regular > 10_000 && bold > regular + regular / 10, "{regular} {bold}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Scene::new(10.0, 10.0, vec![]).to_png(0.0).is_err());
        assert!(Scene::new(1e9, 1e9, vec![]).to_png(1.0).is_err());
    }
}
