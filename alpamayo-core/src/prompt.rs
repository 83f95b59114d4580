//! What the model is asked: images, ego history and instruction as token ids.

use crate::{Error, ModelConfig, Result, Tokenizer};

const SYSTEM: &str = "You are a driving assistant that generates safe and accurate actions.";
const INSTRUCTION: &str =
    "output the chain-of-thought reasoning of the driving process, then output the future trajectory.";

/// Names of the cameras in Alpamayo 1.5's prompts, by camera index.
const CAMERA_NAMES: [&str; 7] = [
    "Front left",
    "Front",
    "Front right",
    "Rear left",
    "Rear",
    "Rear right",
    "Front telephoto",
];

/// Which prompt a model was trained with, and what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PromptStyle {
    /// Alpamayo-R1: images, history, instruction.
    #[default]
    R1,
    /// Alpamayo-R1 with another instruction than the one it was trained with.
    Instructed {
        /// What stands in the prompt instead of the instruction.
        instruction: String,
    },
    /// Alpamayo 1.5: camera and frame named before the images, and a route instruction if there is one.
    Labelled {
        /// Where to go: `Turn left onto De La Cruz Boulevard in 40m`.
        navigation: Option<String>,
    },
    /// Alpamayo 1.5: a question about the images, which is answered in words. No history, no trajectory.
    Question {
        /// The question.
        question: String,
    },
}

/// Builds prompts for one checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct PromptBuilder<'a> {
    tokenizer: &'a Tokenizer,
    tokens_per_history_traj: usize,
    inference_guidance_weight: f64,
}

impl<'a> PromptBuilder<'a> {
    /// A builder for the checkpoint that `config` and `tokenizer` belong to.
    pub fn new(tokenizer: &'a Tokenizer, config: &ModelConfig) -> Self {
        Self {
            tokenizer,
            tokens_per_history_traj: config.tokens_per_history_traj,
            inference_guidance_weight: config.flow.inference_guidance_weight,
        }
    }

    /// The prompt's token ids. The history is a block of `<|traj_history|>` tokens yet, to be replaced by
    /// [`fuse_history`](crate::fuse_history).
    ///
    /// `tokens_per_image` has one entry per frame: every camera's frames, oldest first, cameras in the order of
    /// `camera_indices`.
    ///
    /// # Errors
    /// [`Error::Prompt`] if cameras and frames don't match, a camera has no name, a text contains special tokens, or there
    /// is a route and the checkpoint wants guidance by it, which is not implemented.
    pub fn build(&self, tokens_per_image: &[usize], camera_indices: &[usize], style: &PromptStyle) -> Result<Vec<u32>> {
        let frames = frames_per_camera(tokens_per_image.len(), camera_indices.len())?;
        let text = self.text(camera_indices, frames, style)?;
        let image_pad = self.tokenizer.image_pad();
        let mut images = tokens_per_image.iter();
        let mut ids = Vec::with_capacity(text.len() / 4 + tokens_per_image.iter().sum::<usize>());
        for id in self.tokenizer.encode(&text)? {
            let count = match id == image_pad {
                true => *images
                    .next()
                    .ok_or_else(|| Error::Prompt("it has more images than frames".into()))?,
                false => 1,
            };
            ids.extend(std::iter::repeat_n(id, count));
        }
        Ok(ids)
    }

    /// The prompt in words, with one `<|image_pad|>` per image.
    ///
    /// # Errors
    /// As [`PromptBuilder::build`], but for the number of frames.
    pub fn text(&self, camera_indices: &[usize], frames_per_camera: usize, style: &PromptStyle) -> Result<String> {
        let images = images(camera_indices, frames_per_camera, style)?;
        let request = match style {
            PromptStyle::R1 => format!("{}{INSTRUCTION}", self.history()),
            PromptStyle::Instructed { instruction } => {
                format!("{}{}", self.history(), self.plain("instruction", instruction)?)
            }
            PromptStyle::Labelled { navigation: None } => format!("{}{INSTRUCTION}", self.history()),
            PromptStyle::Labelled {
                navigation: Some(route),
            } => {
                self.check_guidance()?;
                let route = self.plain("navigation", route)?;
                format!("{}<|route_start|>{route}<|route_end|>{INSTRUCTION}", self.history())
            }
            PromptStyle::Question { question } => {
                format!(
                    "<|question_start|>{}<|question_end|>",
                    self.plain("question", question)?
                )
            }
        };
        let answer = match style {
            PromptStyle::R1 | PromptStyle::Instructed { .. } | PromptStyle::Labelled { .. } => "<|cot_start|>",
            PromptStyle::Question { .. } => "<|answer_start|>",
        };
        Ok(format!(
            "<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{images}{request}<|im_end|>\n\
             <|im_start|>assistant\n{answer}"
        ))
    }

    fn history(&self) -> String {
        let numbers = "<|traj_history|>".repeat(self.tokens_per_history_traj);
        format!("<|traj_history_start|>{numbers}<|traj_history_end|>")
    }

    /// With a route, the flow follows the weighted difference that the route makes; nothing here computes that.
    fn check_guidance(&self) -> Result<()> {
        if self.inference_guidance_weight == 1.0 {
            return Ok(());
        }
        Err(Error::Prompt(format!(
            "config.json: diffusion_cfg.inference_guidance_weight is {}, but guidance by a route is not implemented: leave \
             the navigation out, or set the weight to 1 to follow the route without guidance",
            self.inference_guidance_weight
        )))
    }

    /// A text from outside, which must not pretend to be a part of the prompt.
    fn plain<'t>(&self, what: &str, text: &'t str) -> Result<&'t str> {
        self.tokenizer.encode_plain(what, text).map(|_| text)
    }
}

fn frames_per_camera(images: usize, cameras: usize) -> Result<usize> {
    match images.checked_div(cameras) {
        Some(frames) if frames > 0 && frames * cameras == images => Ok(frames),
        _ => Err(Error::Prompt(format!(
            "{images} frames are not the same number for each of {cameras} cameras"
        ))),
    }
}

fn images(camera_indices: &[usize], frames: usize, style: &PromptStyle) -> Result<String> {
    const IMAGE: &str = "<|vision_start|><|image_pad|><|vision_end|>";
    if matches!(style, PromptStyle::R1 | PromptStyle::Instructed { .. }) {
        return Ok(IMAGE.repeat(camera_indices.len() * frames));
    }
    let camera = |&index: &usize| {
        let name = CAMERA_NAMES.get(index).ok_or_else(|| {
            Error::Prompt(format!(
                "camera {index} has no name; the cameras 0 to {} have",
                CAMERA_NAMES.len() - 1
            ))
        })?;
        let frames: String = (0..frames).map(|frame| format!("frame {frame} {IMAGE}")).collect();
        Ok(format!("{name} camera: {frames}"))
    };
    camera_indices.iter().map(camera).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;
    use crate::{Frame, ImageProcessor, MultimodalPositions, test_data};

    #[test]
    fn a_reference_prompt_with_its_positions() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let data = test_data::TestData::read("small-checkpoint/prompt.safetensors");
        let grids: Vec<[usize; 3]> = data
            .rows::<i64, 3>("image_grid_thw")
            .iter()
            .map(|g| g.map(|n| n as usize))
            .collect();
        let tokens: Vec<usize> = grids.iter().map(|grid| grid.iter().product::<usize>() / 4).collect();
        let ids = PromptBuilder::new(&tokenizer, &config)
            .build(&tokens, &[0, 1, 2, 6], &PromptStyle::R1)
            .unwrap();
        assert_eq!(
            ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(),
            data.values::<i64>("input_ids")
        );

        let positions = MultimodalPositions::new(&ids, tokenizer.image_pad(), &grids, 2).unwrap();
        assert_eq!(data.values::<i64>("rope_deltas"), [positions.rope_delta]);
        let expected = data.values::<i64>("position_ids");
        for (axis, expected) in expected.chunks(ids.len()).enumerate() {
            let found: Vec<i64> = positions.ids.iter().map(|position| position[axis]).collect();
            assert_eq!(found, expected, "axis {axis}");
        }
    }

    /// Frames of each camera's own size, from pixels to positions.
    #[test]
    fn cameras_of_different_sizes_make_one_prompt() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let frame =
            |&(width, height): &(usize, usize)| Frame::new(width, height, vec![90; width * height * 3]).unwrap();
        // A wide dashcam and an upright telephone, two frames of each.
        let frames: Vec<Frame> = [(130, 60), (130, 60), (35, 155), (35, 155)].iter().map(frame).collect();
        let patches = ImageProcessor::new(&config).process(&frames).unwrap();
        assert_eq!(patches.grid_thw, [[1, 4, 8], [1, 4, 8], [1, 10, 2], [1, 10, 2]]);
        let tokens = patches.tokens_per_image();
        assert_eq!(tokens, [8, 8, 5, 5]);
        let builder = PromptBuilder::new(&tokenizer, &config);
        let ids = builder.build(&tokens, &[1, 6], &PromptStyle::R1).unwrap();
        let image_pad = tokenizer.image_pad();
        let positions = MultimodalPositions::new(&ids, image_pad, &patches.grid_thw, 2).unwrap();

        let is_image = |index: &usize| ids[*index] == image_pad;
        let mut images = Vec::new();
        let mut start = 0;
        while let Some(first) = (start..ids.len()).find(is_image) {
            let end = (first..ids.len()).find(|index| !is_image(index)).unwrap();
            let origin = positions.ids[first][0];
            let places: Vec<_> = positions.ids[first..end]
                .iter()
                .map(|id| id.map(|axis| axis - origin))
                .collect();
            // What follows an image continues behind its longer side.
            images.push((places, positions.ids[end][0] - origin));
            start = end;
        }
        let cells = |rows: i64, columns: i64| -> Vec<[i64; 3]> {
            (0..rows)
                .flat_map(|row| (0..columns).map(move |column| [0, row, column]))
                .collect()
        };
        let (wide, upright) = ((cells(2, 4), 4), (cells(5, 1), 5));
        assert_eq!(images, [wide.clone(), wide, upright.clone(), upright]);
    }

    /// Texts of all styles, which do not depend on the tokenizer.
    #[test]
    fn every_reference_text() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let cases: Value = serde_json::from_str(include_str!("../tests/data/prompt_texts.json")).unwrap();
        let mut styles = 0;
        for case in cases.as_array().unwrap() {
            let (cameras, frames, style) = request(case);
            let text = PromptBuilder::new(&tokenizer, &config)
                .text(&cameras, frames, &style)
                .unwrap();
            assert_eq!(
                text,
                case["text_before_image_expansion"].as_str().unwrap(),
                "{}",
                case["name"]
            );
            styles += 1;
        }
        assert_eq!(styles, 5);
    }

    /// Cameras, frames per camera and style of a reference case.
    fn request(case: &Value) -> (Vec<usize>, usize, PromptStyle) {
        let images = case["text_before_image_expansion"]
            .as_str()
            .unwrap()
            .matches("<|image_pad|>")
            .count();
        let text = |name: &str| case[name].as_str().map(str::to_string);
        match case["name"].as_str().unwrap() {
            "r1" => (vec![0, 1, 2, 6], images / 4, PromptStyle::R1),
            "r1-one-camera" => (vec![1], images, PromptStyle::R1),
            "1.5-cameras" => (vec![0, 1, 2, 6], images / 4, PromptStyle::Labelled { navigation: None }),
            "1.5-nav" => (
                vec![0, 1, 2, 6],
                images / 4,
                PromptStyle::Labelled {
                    navigation: text("nav_text"),
                },
            ),
            "1.5-vqa" => (
                vec![0, 1],
                images / 2,
                PromptStyle::Question {
                    question: text("question").unwrap(),
                },
            ),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn another_instruction_stands_where_the_usual_one_does() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let builder = PromptBuilder::new(&tokenizer, &config);
        let text = |style: &PromptStyle| builder.text(&[0, 1], 4, style).unwrap();
        let instructed = |instruction: &str| PromptStyle::Instructed {
            instruction: instruction.into(),
        };
        assert_eq!(text(&instructed(INSTRUCTION)), text(&PromptStyle::R1));
        let expected = text(&PromptStyle::R1).replace(INSTRUCTION, "stop at once.");
        assert_eq!(text(&instructed("stop at once.")), expected);
    }

    /// With `ALPAMAYO_DOMAIN` naming a directory of reference values and `ALPAMAYO_TOKENIZER` the released tokenizer.
    #[test]
    #[ignore = "needs the released tokenizer"]
    fn every_reference_prompt_with_the_released_tokenizer() {
        let domain = PathBuf::from(std::env::var("ALPAMAYO_DOMAIN").unwrap());
        let read = |name: &str| std::fs::read_to_string(domain.join(name)).unwrap();
        let config =
            ModelConfig::from_json(&read("alpamayo-r1-10b.config.json"), &read("qwen3-vl-8b.config.json")).unwrap();
        let tokenizer = Tokenizer::from_file(std::env::var("ALPAMAYO_TOKENIZER").unwrap(), &config).unwrap();
        let cases: Value = serde_json::from_str(&read("prompts.json")).unwrap();
        let ids_of = |value: &Value| -> Vec<u32> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32)
                .collect()
        };
        let (mut prompts, mut strings) = (0, 0);
        for case in cases.as_array().unwrap() {
            if let Some(texts) = case["encode"].as_array() {
                for text in texts {
                    let ids = tokenizer.encode(text["text"].as_str().unwrap()).unwrap();
                    assert_eq!(ids, ids_of(&text["ids"]), "{text}");
                    assert_eq!(tokenizer.decode(&ids).unwrap(), text["decoded"].as_str().unwrap());
                    strings += 1;
                }
            } else if let Some(grids) = case["image_grid_thw"].as_array() {
                let tokens: Vec<usize> = grids
                    .iter()
                    .map(|grid| ids_of(grid).iter().product::<u32>() as usize / 4)
                    .collect();
                let (cameras, _, style) = request(case);
                let ids = PromptBuilder::new(&tokenizer, &config)
                    .build(&tokens, &cameras, &style)
                    .unwrap();
                assert_eq!(ids, ids_of(&case["input_ids"]), "{}", case["name"]);
                prompts += 1;
            }
        }
        assert_eq!((prompts, strings), (5, 10));
    }

    #[test]
    fn requests_that_make_no_prompt() {
        let (config, tokenizer) = test_data::small_checkpoint();
        let builder = PromptBuilder::new(&tokenizer, &config);
        let error = |tokens: &[usize], cameras: &[usize], style| {
            builder.build(tokens, cameras, &style).unwrap_err().to_string()
        };
        let labelled = |text: &str| PromptStyle::Labelled {
            navigation: Some(text.into()),
        };
        assert!(error(&[4; 3], &[0, 1], PromptStyle::R1).contains("3 frames"));
        assert!(error(&[], &[0], PromptStyle::R1).contains("0 frames"));
        assert!(error(&[4], &[], PromptStyle::R1).contains("0 cameras"));
        assert!(error(&[4], &[7], labelled("left")).contains("camera 7"));
        assert!(error(&[4], &[1], labelled("left<|im_end|>")).contains("<|im_end|>"));
        let question = PromptStyle::Question {
            question: "<|image_pad|>?".into(),
        };
        assert!(error(&[4], &[1], question).contains("<|image_pad|>"));
        let mut guided = config.clone();
        guided.flow.inference_guidance_weight = 1.5;
        let guided = PromptBuilder::new(&tokenizer, &guided);
        let error_of_guidance = guided.text(&[1], 1, &labelled("left")).unwrap_err().to_string();
        assert!(
            error_of_guidance.contains("inference_guidance_weight is 1.5"),
            "{error_of_guidance}"
        );
        // Without a route there is nothing to be guided by.
        for style in [PromptStyle::R1, PromptStyle::Labelled { navigation: None }] {
            assert_eq!(
                guided.text(&[1], 1, &style).unwrap(),
                builder.text(&[1], 1, &style).unwrap()
            );
        }
        let instructed = PromptStyle::Instructed {
            instruction: "<|im_end|>".into(),
        };
        assert!(error(&[4], &[1], instructed).contains("the instruction contains the special token"));
    }
}
