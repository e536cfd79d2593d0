"""The corpus of right and wrong TracingConfigs, as a real API server judges it: the same as the model."""

import pytest
import yaml

from support_apiserver_access import Api, Object, collection_path, object_path
from support_tracingconfigs import Case, list_cases, name_case

pytestmark = pytest.mark.apiserver

# As kubectl asks when it creates; nothing is stored.
STRICT = {"fieldValidation": "Strict", "dryRun": "All", "fieldManager": "kubectl"}


def read_documents(case: Case) -> list[Object]:
    return list(yaml.safe_load_all(case.path.read_text(encoding="utf-8")))


def judge(api: Api, document: Object, *, replaces: bool = False) -> str:
    """What the API server says against it; empty when it takes it."""
    ask = api.http.put if replaces else api.http.post
    path = object_path(document) if replaces else collection_path(document)
    answer = ask(path, json=document, params=STRICT)
    if answer.status_code < 300:
        return ""
    assert answer.status_code in (400, 422), answer.text
    return str(answer.json()["message"])


@pytest.mark.parametrize("case", list_cases("good"), ids=name_case)
def test_what_the_model_takes_the_api_server_takes(api: Api, case: Case) -> None:
    for document in read_documents(case):
        assert judge(api, document) == ""


@pytest.mark.parametrize("case", list_cases("bad"), ids=name_case)
def test_what_the_model_refuses_the_api_server_refuses(api: Api, case: Case) -> None:
    (document,) = read_documents(case)
    message = judge(api, document)

    assert message
    names = [part for part in case.field.split(".") if not part.isdigit()]
    assert names[-1] in message, f"{case.field} is not named: {message}"


@pytest.mark.parametrize("case", list_cases("model-only"), ids=name_case)
def test_what_only_the_model_can_refuse_the_api_server_takes(api: Api, case: Case) -> None:
    """Else it belongs to the bad ones."""
    for document in read_documents(case):
        assert judge(api, document) == ""


@pytest.mark.parametrize("case", list_cases("transitions"), ids=name_case)
def test_a_way_that_there_is_none_is_refused(api: Api, case: Case) -> None:
    before, after = read_documents(case)
    for document in (before, after):
        document["metadata"]["name"] = "transition"
        assert judge(api, document) == ""
    version = api.create(before)["metadata"]["resourceVersion"]
    for document in (before, after):
        document["metadata"]["resourceVersion"] = version
    try:
        assert judge(api, after, replaces=True)
        assert judge(api, before, replaces=True) == ""
    finally:
        api.delete(object_path(before))
