//! What a sentence says.

use super::intent::{Intent, PathIntent, Side, SpeedIntent};

/// Reads the intent from a sentence of reasoning, by these rules:
///
/// - Only what is decided counts, not why: words from the first *because*, *since*, *due*, *as*, *given* or *while* on
///   are left out, unless that is the first word. Words after *not*, *no*, *without*, *never* or *avoid* (up to three)
///   are left out too.
/// - speed: the first of these words or pairs. *Stop*: stop, stopping, halt, wait, remain stopped. *Yield*: yield,
///   yielding, give way. *Slow*: slow down, slow for/to/and, slowing, decelerate, brake, ease off, and reduce, decrease
///   or lower with *speed* within three words. *Accelerate*: accelerate, accelerating, speed up, start moving, start
///   driving, resume, pull away, set off, and increase with *speed* within three words. *Keep*: keep, maintain,
///   continue, follow, proceed, cruise, match; not where the object is the lane. A name is no decision: stop or yield
///   before *sign*, *line*, *light* or *bar*.
/// - path: *turn* and *nudge* (also move, shift, steer, swerve, change, merge, veer) with a side: the one that follows
///   at once (*turn left*, *move to the left*), or else stands before it (*a left turn*, *a left lane change*; but not
///   *on the left*, nor before *and* or *then*), or else follows within six words; *curve* (also bend) with the side
///   next to it; *keep* where the lane is kept, or for *straight*. Turn and nudge come before curve, curve before keep.
pub fn stated_intent(sentence: &str) -> Intent {
    let words = decided_words(sentence);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Intent {
        speed: (0..words.len()).find_map(|at| speed_at(&words, at)),
        path: (0..words.len())
            .find_map(|at| maneuver_at(&words, at))
            .or_else(|| (0..words.len()).find_map(|at| curve_at(&words, at)))
            .or_else(|| {
                (0..words.len())
                    .any(|at| keeps_lane(&words, at))
                    .then_some(PathIntent::Keep)
            }),
    }
}

const REASONS: [&str; 6] = ["because", "since", "due", "as", "given", "while"];
const NEGATIONS: [&str; 5] = ["not", "no", "without", "never", "avoid"];

/// The lower-case words that say what is decided.
fn decided_words(sentence: &str) -> Vec<String> {
    let words = sentence
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase);
    let mut decided = Vec::new();
    let mut negated = 0;
    for (index, word) in words.enumerate() {
        if index > 0 && REASONS.contains(&word.as_str()) {
            break;
        }
        if NEGATIONS.contains(&word.as_str()) {
            negated = 3;
        } else if negated > 0 {
            negated -= 1;
        } else {
            decided.push(word);
        }
    }
    decided
}

/// Whether one of `next` follows `words[at]`.
fn followed(words: &[&str], at: usize, next: &[&str]) -> bool {
    words.get(at + 1).is_some_and(|word| next.contains(word))
}

fn speed_at(words: &[&str], at: usize) -> Option<SpeedIntent> {
    let next = |list: &[&str]| followed(words, at, list);
    let is_name = next(&["sign", "signs", "line", "light", "bar"]);
    let intent = match words[at] {
        "stop" | "stopping" if !is_name => SpeedIntent::Stop,
        "halt" | "wait" | "waiting" => SpeedIntent::Stop,
        "remain" | "stay" if next(&["stopped", "stationary"]) => SpeedIntent::Stop,
        "yield" | "yielding" if !is_name => SpeedIntent::Yield,
        "give" if next(&["way"]) => SpeedIntent::Yield,
        "slow" if at + 1 == words.len() || next(&["down", "for", "to", "and", "behind", "slightly", "gently"]) => {
            SpeedIntent::Slow
        }
        "slowing" | "decelerate" | "decelerating" | "brake" | "braking" => SpeedIntent::Slow,
        "reduce" | "reducing" | "decrease" | "decreasing" | "lower" if of_speed(words, at) => SpeedIntent::Slow,
        "ease" if next(&["off"]) => SpeedIntent::Slow,
        "accelerate" | "accelerating" | "resume" => SpeedIntent::Accelerate,
        "increase" | "increasing" if of_speed(words, at) => SpeedIntent::Accelerate,
        "speed" if next(&["up"]) => SpeedIntent::Accelerate,
        "start" if next(&["moving", "driving"]) => SpeedIntent::Accelerate,
        "pull" if next(&["away"]) => SpeedIntent::Accelerate,
        "set" if next(&["off"]) => SpeedIntent::Accelerate,
        "keep" | "maintain" | "continue" | "follow" | "proceed" | "cruise" | "match" => {
            let of_the_path = keeps_lane(words, at) || words[at + 1..].iter().take(4).any(|word| is_curve(word));
            if of_the_path {
                return None;
            }
            SpeedIntent::Keep
        }
        _ => return None,
    };
    Some(intent)
}

/// Whether the verb at `at` is about the speed: *speed*, *your speed*, *the vehicle's speed*.
fn of_speed(words: &[&str], at: usize) -> bool {
    // What is left of *'s* is no word.
    let after = words[at + 1..].iter().filter(|word| **word != "s");
    after.take(3).any(|word| *word == "speed")
}

fn side(word: &str) -> Option<Side> {
    match word {
        "left" | "leftward" | "leftwards" => Some(Side::Left),
        "right" | "rightward" | "rightwards" => Some(Side::Right),
        _ => None,
    }
}

/// The side of the maneuver at `at`.
fn side_of(words: &[&str], at: usize) -> Option<Side> {
    let after = &words[at + 1..];
    // *turn left*, *move to the left*
    let direction = after
        .iter()
        .take(3)
        .find(|word| !matches!(**word, "to" | "towards" | "the"));
    if let Some(side) = direction.and_then(|word| side(word)) {
        return Some(side);
    }
    // *a left turn*, *a left lane change*; not *the truck on the left; change lanes*
    let before = (at.saturating_sub(2)..at)
        .rev()
        .find_map(|place| Some((place, side(words[place])?)));
    let place_of_another = |place: usize| {
        let prior = words[..place].iter().rev().find(|word| **word != "the");
        prior.is_some_and(|word| matches!(*word, "on" | "to" | "from" | "at"))
    };
    let linked = |place: usize| {
        words[place + 1..at]
            .iter()
            .any(|word| matches!(*word, "and" | "then" | "or" | "to"))
    };
    if let Some((place, side)) = before
        && !place_of_another(place)
        && !linked(place)
    {
        return Some(side);
    }
    after.iter().take(6).find_map(|word| side(word))
}

/// A turn or a nudge with its side.
fn maneuver_at(words: &[&str], at: usize) -> Option<PathIntent> {
    let towards = side_of(words, at);
    match words[at] {
        "turn" | "turning" if !followed(words, at, &["signal", "lane", "lanes"]) => towards.map(PathIntent::Turn),
        "nudge" | "nudging" | "move" | "shift" | "steer" | "swerve" | "change" | "merge" | "veer" => {
            towards.map(PathIntent::Nudge)
        }
        _ => None,
    }
}

fn is_curve(word: &str) -> bool {
    matches!(word, "curve" | "curves" | "bend" | "bends")
}

/// A bend with its side: *the left curve*, *the sharp bend to the left*.
fn curve_at(words: &[&str], at: usize) -> Option<PathIntent> {
    if !is_curve(words[at]) {
        return None;
    }
    let before = words[at.saturating_sub(2)..at].iter().rev().find_map(|word| side(word));
    let after = || words[at + 1..].iter().take(3).find_map(|word| side(word));
    before.or_else(after).map(PathIntent::Curve)
}

/// Whether the word at `at` keeps the lane.
fn keeps_lane(words: &[&str], at: usize) -> bool {
    match words[at] {
        "keep" | "maintain" | "stay" | "remain" | "follow" => words[at + 1..]
            .iter()
            .take(4)
            .any(|word| matches!(*word, "lane" | "lanes" | "centered" | "centred")),
        "straight" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_read() {
        for (sentence, expected) in [
            ("Stop for the red traffic light ahead.", "stop"),
            ("Start moving because the traffic light has turned green.", "accelerate"),
            ("Yield to the pedestrian crossing from the right.", "yield"),
            (
                "Nudge to the right to pass the construction barriers on the left.",
                "nudge right",
            ),
            ("Keep the lane and follow the right curve.", "curve right"),
            ("Slow down to keep a safe distance from the slower truck ahead.", "slow"),
            ("Keep driving straight because the road is clear.", "keep, keep lane"),
            (
                "Keep a safe distance to the lead vehicle since it is slowing down.",
                "keep",
            ),
            ("Keep lane to continue driving at the current speed.", "keep, keep lane"),
            (
                "Nudge to the left to increase clearance from the parked car on the right.",
                "nudge left",
            ),
            ("Slow down for the sharp bend to the left.", "slow, curve left"),
            ("Adapt speed for the left curve ahead.", "curve left"),
            ("Turn left at the intersection.", "turn left"),
            ("Slow down and turn right.", "slow, turn right"),
            ("Make a left turn at the intersection.", "turn left"),
            ("Make a left turn behind the bus on the right.", "turn left"),
            ("Prepare for the sharp right turn.", "turn right"),
            ("Perform a right lane change.", "nudge right"),
            ("Make a lane change to the left.", "nudge left"),
            ("Pass the cyclist on the left, then move right.", "nudge right"),
            ("Pass the cyclist on the left and move to the right.", "nudge right"),
            (
                "Yield to the car from the left, turn at the light to the right.",
                "yield, turn right",
            ),
            ("Keep left and turn at the street to the right.", "keep, turn right"),
            ("The car on the right may turn.", "unstated"),
            ("Use the left turn lane.", "unstated"),
            ("Increase speed to match the traffic.", "accelerate"),
            ("Increase clearance, then decrease speed.", "slow"),
            ("Reduce your speed for the school zone.", "slow"),
            (
                "Gradually reduce the vehicle's speed and nudge left.",
                "slow, nudge left",
            ),
            ("Increase the distance to the speeding truck.", "unstated"),
            (
                "Change lanes to the left due to the stopped vehicle ahead.",
                "nudge left",
            ),
            ("Slow down for the stop sign ahead.", "slow"),
            ("Stop at the stop line.", "stop"),
            ("Keep distance to the slow truck.", "keep"),
            ("Do not stop for the shadow; continue.", "keep"),
            ("Since the light is red, stop.", "stop"),
            ("Accelerate to merge to the left.", "accelerate, nudge left"),
            ("Brake hard because a cyclist is braking.", "slow"),
            ("The pedestrian on the left is waving.", "unstated"),
            ("", "unstated"),
        ] {
            assert_eq!(stated_intent(sentence).to_string(), expected, "{sentence}");
        }
    }

    #[test]
    fn case_and_punctuation_do_not_matter() {
        assert_eq!(stated_intent("STOP!"), stated_intent("stop"));
        assert_eq!(
            stated_intent("(nudge, to-the left)"),
            stated_intent("Nudge to the left.")
        );
    }
}
