//! The story on real QEMU guests: three managers, two nodes, two networks, guests with xrdp and qemu-ga.

use vouch_tests::netns::must_skip;
use vouch_tests::story::{Profile, QemuStage, Scene, whole};

#[test]
fn the_story_holds_on_real_guests() {
    if must_skip("the story on QEMU") {
        return;
    }
    let (mut stage, boot) = QemuStage::start("story-qemu", Profile::Slow, Scene::Story, |text| println!("{text}"))
        .expect("the cluster comes up");
    println!("all guests and watchers are up after {boot:.1?}");
    let took = whole(&mut stage, true).unwrap_or_else(|e| panic!("{e:#}\nlogs: {}", stage.logs().display()));
    for (what, time) in took {
        println!("{:>8.2} s  {what}", time.as_secs_f64());
    }
}
