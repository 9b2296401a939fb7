"""Chat templates: Hugging Face's customs kept, a stranger's program held, its words passed on."""

from __future__ import annotations

import json
import re
from datetime import datetime
from importlib.resources import files

import pytest

from freehold.errors import InvalidRequest, ModelError
from freehold.model.template import ChatTemplate, tool_style

USER = {"role": "user", "content": "<b>wörld & 'co'</b>"}


def test_the_starters_template_renders() -> None:
    template = ChatTemplate((files("freehold") / "starter" / "chat_template.jinja").read_text())
    assert template.render([{"role": "system", "content": " Be brief. "}, USER]).endswith(
        USER["content"] + "<|end|><|assistant|>"
    )
    assert template.tools == "hermes"


def test_blocks_leave_no_lines_and_nothing_is_escaped() -> None:
    text = "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n"
    assert ChatTemplate(text).render([USER]) == USER["content"] + "\n"
    assert ChatTemplate("{{ messages | tojson }}").render([USER]) == json.dumps([USER], ensure_ascii=False)
    assert ChatTemplate("{{ [1] | tojson(indent=2) }}").render([]) == "[\n  1\n]"


def test_the_variables_there_are() -> None:
    text = "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}{{ thinking }}"
    template = ChatTemplate(text, "<s>", "</s>")
    assert template.render([], kwargs={"thinking": 1}) == "<s></s>TrueTrue1"
    assert template.render([], tools=[{"x": 1}], add_generation_prompt=False) == "<s></s>FalseFalse"
    assert ChatTemplate("{{ messages }}").render([], kwargs={"messages": "mine"}) == "[]"
    year = ChatTemplate("{{ strftime_now('%Y') }}").render([])
    assert year == str(datetime.now().astimezone().year)
    assert (
        ChatTemplate("{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}").render([]) == "1"
    )
    assert ChatTemplate("{% generation %}a{% endgeneration %}").render([]) == "a"


def test_arguments_of_tool_calls_are_given_parsed() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Köln"}'}}
    text = "{{ messages[0].tool_calls[0].function.arguments.city }}"
    assert ChatTemplate(text).render([{"role": "assistant", "tool_calls": [call]}]) == "Köln"
    broken = {"function": {"name": "f", "arguments": "{oops"}}
    plain = "{{ messages[0].tool_calls[0].function.arguments }}"
    assert ChatTemplate(plain).render([{"tool_calls": [broken]}]) == "{oops"
    assert call["function"]["arguments"] == '{"city": "Köln"}'


def test_a_templates_own_words_reach_the_client() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate user/assistant.') }}")
    with pytest.raises(InvalidRequest, match=re.escape("It says: Roles must alternate user/assistant.")) as raised:
        template.render([USER])
    assert raised.value.param == "messages"
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{% for i in range(100000000) %}x{% endfor %}",
        "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
        "{{ messages[0].content.there.is.none }}",
        "{{ messages[0] + 1 }}",
        "{{ 1 // 0 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_what_a_template_may_not_or_cannot_do(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ChatTemplate(text).render([USER])


def test_a_template_that_does_not_parse_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="Line 2: "):
        ChatTemplate("{{ a }}\n{% if %}")


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("{{ messages }}", "none"),
        ("{% if tools %}<tools></tools> in <tool_call></tool_call>{% endif %}", "hermes"),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "mistral"),
        ('{% if tools %}{"name": function name, "parameters": dictionary}{% endif %}', "llama3"),
    ],
)
def test_tool_style(text: str, style: str) -> None:
    assert tool_style(text) == style
