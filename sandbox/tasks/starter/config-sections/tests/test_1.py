from config_file import parse_config


def test_keys_go_to_their_section():
    assert parse_config("[web]\nport = 80") == {"main": {}, "web": {"port": "80"}}


def test_keys_before_any_section():
    assert parse_config("a = 1") == {"main": {"a": "1"}}


def test_two_sections():
    assert parse_config("[a]\nx=1\n[b]\nx=2") == {"main": {}, "a": {"x": "1"}, "b": {"x": "2"}}


def test_comments_and_blank_lines():
    assert parse_config("# note\n\n[a]\n# more\nk = v") == {"main": {}, "a": {"k": "v"}}


def test_section_without_keys():
    assert parse_config("[empty]") == {"main": {}, "empty": {}}
