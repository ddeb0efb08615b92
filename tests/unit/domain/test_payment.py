"""Payment words: which channel carries a method's money."""

import pytest

from domain.payment import PayMethod


def test_every_method_names_its_channel() -> None:
    assert {method: method.channel for method in PayMethod} == {
        PayMethod.WECHAT_JSAPI: "wechat",
        PayMethod.WECHAT_NATIVE: "wechat",
        PayMethod.WECHAT_CODE: "wechat",
        PayMethod.CASH: "cash",
    }


def test_a_method_that_nobody_assigned_has_no_channel() -> None:
    channel = vars(PayMethod)["channel"].fget
    assert channel("cash") == "cash"
    with pytest.raises(AssertionError, match="alipay_code"):
        channel("alipay_code")


def test_every_method_has_words_for_a_receipt() -> None:
    assert len({method.label_zh for method in PayMethod}) == len(PayMethod)
