from __future__ import annotations

import pytest

LAUGHS = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 6))


@pytest.mark.parametrize(
    "entity",
    [
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        "<!ENTITY x SYSTEM 'http://127.0.0.1/x'>",
        '<!ENTITY % x SYSTEM "http://127.0.0.1/x.dtd">%x;',
        '<!ENTITY x PUBLIC "a" "http://127.0.0.1/x">',
    ],
)
@pytest.mark.parametrize("name", ["model.xml", "model.pmml", "picture.svg"])
def test_entities_that_stand_for_something_elsewhere(rules_of, entity, name):
    text = f'<?xml version="1.0"?><!DOCTYPE a [{entity}]><a>&x;</a>'
    assert "RGS-XML-001" in rules_of({name: text})


def test_entities_that_multiply(rules_of):
    assert "RGS-XML-002" in rules_of(
        {"m.xml": f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "ha">{LAUGHS}]><a>&e5;</a>'}
    )


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?><a/>',
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg/>',
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY name "Regraft"><!ENTITY both "&name;&name;">]><a>&name;</a>',
    ],
)
def test_ordinary_documents(rules_of, text):
    assert not {rule for rule in rules_of({"a.svg": text}) if rule.startswith("RGS-XML")}


def test_a_document_type_elsewhere(rules_of):
    pmml = '<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"/>'
    assert "RGS-XML-003" in rules_of({"m.pmml": f'<!DOCTYPE PMML SYSTEM "http://x/y.dtd">{pmml}'})
    assert "RGS-XML-003" not in rules_of({"m.pmml": f"<!DOCTYPE PMML>{pmml}"})
    svg = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg/>'
    assert "RGS-XML-003" not in rules_of({"x.svg": svg})
