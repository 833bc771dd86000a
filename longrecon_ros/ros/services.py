"""The node's services: each answers with success and a sentence."""

from typing import Any, Dict, List

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from ..errors import InputError
from .node_config import map_folder

# calls that wait for one that takes long; of the usual 10, older ones would never be answered
_QOS = QoSProfile(depth=100)


class Services:
    """Declares the services of a `SlamNode` and passes them on to its worker.

    They are there in all states of the node, to say why something cannot be. A service waits for
    the worker without keeping others from their turn, but the next call of any of them comes
    after it.
    """

    def __init__(self, node: Any):
        self._node = node
        self._replies: Dict[int, Future] = {}
        # their own group: they wait for what callbacks of the default group bring
        group = MutuallyExclusiveCallbackGroup()
        triggers = {'pause': self._pause, 'resume': self._resume, 'reset': self._reset,
                    'save': self._save, 'save_map': self._save_map, 'load_map': self._load_map}
        self._services: List[Any] = [
            node.create_service(Trigger, f'~/{name}', callback, qos_profile=_QOS,
                                callback_group=group)
            for name, callback in triggers.items()]
        self._services.append(node.create_service(
            SetBool, '~/set_localization', self._set_localization, qos_profile=_QOS,
            callback_group=group))

    def break_off(self) -> None:
        """Tell who waits that there will be no answer: the worker is gone."""
        for ticket in list(self._replies):
            self.answered({'ticket': ticket, 'is_done': False,
                           'text': 'the node was cleaned up meanwhile'})

    def ask(self, method: str, *arguments: Any) -> Future:
        """Have the worker call a method of its session; the future gives its answer."""
        future, engine = Future(), self._node.engine
        if engine is None:
            future.set_result({'is_done': False,
                               'text': 'the node is not configured: configure it first'})
        else:
            self._replies[engine.call(method, *arguments)] = future
        return future

    def answered(self, message: Dict[str, Any]) -> None:
        """Pass an answer on to who waits for it."""
        future = self._replies.pop(message['ticket'], None)
        if future is not None:
            future.set_result(message)

    async def _pause(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        """Take no images until resume; odom and map stay."""
        return self._set_paused(True, response)

    async def _resume(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        return self._set_paused(False, response)

    def _set_paused(self, is_paused: bool, response: Trigger.Response) -> Trigger.Response:
        inputs = self._node.inputs
        if inputs is None:
            return _say(response, False, 'the node is not active: activate it first')
        was_paused, inputs.is_paused = inputs.is_paused, is_paused
        text = 'paused' if is_paused else 'running'
        return self._done(response, True, f'{text} already' if was_paused == is_paused else text)

    async def _reset(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        """Forget map and trajectory; the next image begins a new odom."""
        return await self._passed_on(response, 'reset')

    async def _save(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        """Process the images that wait for their window, then write the files."""
        flushed = await self.ask('flush')
        if not flushed['is_done']:
            return self._done(response, False, flushed['text'])
        if self._node.outputs is not None:
            self._node.outputs.write_path()
        return await self._passed_on(response, 'save')

    async def _save_map(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        return await self._with_map(response, 'save_map')

    async def _load_map(self, _: Any, response: Trigger.Response) -> Trigger.Response:
        return await self._with_map(response, 'load_map', 'check_map')

    async def _set_localization(self, request: SetBool.Request,
                                response: SetBool.Response) -> SetBool.Response:
        return await self._passed_on(response, 'set_localization', bool(request.data),
                                     check='check_localization')

    async def _with_map(self, response: Any, method: str, check: str = '') -> Any:
        config = self._node.live.config
        try:
            folder = map_folder(config, config.map_name)
        except InputError as error:
            return self._done(response, False, str(error))
        return await self._passed_on(response, method, str(folder), check=check)

    async def _passed_on(self, response: Any, method: str, *arguments: Any,
                         check: str = '') -> Any:
        """Have the worker do it.

        What begins a new stream has a ``check`` first, which leaves the stream alone: it fails, or
        says why there is nothing to do, or says nothing.
        """
        if check:
            answer = await self.ask(check, *arguments)
            if not answer['is_done'] or answer['text']:
                return self._done(response, answer['is_done'], answer['text'])
        answer = await self.ask(method, *arguments)
        return self._done(response, answer['is_done'], answer['text'])

    def _done(self, response: Any, is_done: bool, text: str) -> Any:
        log = self._node.get_logger()
        # rclpy ties each line of code to one severity
        if is_done:
            log.info(text)
        else:
            log.warning(text)
        return _say(response, is_done, text)


def _say(response: Any, is_done: bool, text: str) -> Any:
    response.success, response.message = is_done, text
    return response


