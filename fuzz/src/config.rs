//! Any text as settings. A configuration that is read and valid can be written, read again and
//! used.

use actix_transport::{Config, GroupId, test_internals::Queue};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(config) = toml::from_str::<Config>(text) else {
        return;
    };
    if let Err(err) = config.validate() {
        // The error names a field that exists.
        assert!(
            format!("{config:?}").contains(&format!("{}: ", err.field)),
            "{err}"
        );
        return;
    }
    let written = toml::to_string(&config).expect("valid settings can be written");
    assert_eq!(
        toml::from_str::<Config>(&written),
        Ok(config.clone()),
        "{written}"
    );
    let queue = Queue::new(&config);
    assert!(queue.push_at(GroupId::new(1), [1; 56], 0).is_ok());
}
