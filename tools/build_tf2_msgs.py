#!/usr/bin/env python3
"""Build `tf2_msgs` for an environment whose ROS comes from wheels (PyPI has no tf2_msgs).

The generators and type supports inside the ros-* wheels, gcc and g++ are all it takes: neither
cmake nor ament. The result is the Python package with three libraries beside it:

- libtf2_msgs__rosidl_generator_c.so and one library per type support; rosidl_typesupport_c opens
  these by name, so their sonames must be exact;
- the extension module that rclpy imports; it finds the libraries next to itself.

Run it with the interpreter of the environment. It does nothing when tf2_msgs can be imported, and
puts the finished package in place with one rename, so an interrupted build leaves nothing behind.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
import importlib
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import tempfile

PACKAGE = 'tf2_msgs'
MESSAGE = 'msg/TFMessage.msg'
DEFINITION = 'geometry_msgs/TransformStamped[] transforms\n'
DEPENDENCIES = ('geometry_msgs', 'std_msgs', 'builtin_interfaces')
FASTRTPS = 'rosidl_typesupport_fastrtps_c'
INTROSPECTION = 'rosidl_typesupport_introspection_c'    # Fast DDS needs it beside its own
PREFIX = Path(sys.prefix)
SHARE = PREFIX / 'share'


def is_importable() -> bool:
    """Say whether this interpreter already has a working tf2_msgs."""
    try:
        module = importlib.import_module(PACKAGE + '.msg')
        module.TFMessage.__class__.__import_type_support__()
    except (ImportError, AttributeError):
        return False
    return module.TFMessage.__class__._TYPE_SUPPORT is not None


def generate(work: Path) -> dict:
    """Write the sources below `work`; return {part: folder}, one folder a generator.

    Two generators write files of the same name, so that the folders must differ.
    """
    from rosidl_adapter import convert_to_idl
    from rosidl_generator_c import generate_c
    from rosidl_generator_py import generate_py
    from rosidl_generator_type_description import generate_type_hash
    from rosidl_typesupport_c import generate_c as generate_dispatch
    from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
    from rosidl_typesupport_introspection_c import generate_c as generate_introspection

    source = work / 'source' / MESSAGE
    source.parent.mkdir(parents=True)
    source.write_text(DEFINITION)
    idl_root = work / 'idl'
    idl = convert_to_idl(work / 'source', PACKAGE, Path(MESSAGE), idl_root).relative_to(idl_root)
    descriptions = []

    def arguments(tool: str, out: Path) -> str:
        """Write the file of arguments that every generator reads; return its path."""
        (out / 'msg' / 'detail').mkdir(parents=True, exist_ok=True)
        templates = SHARE / tool / 'resource'
        for template in templates.glob('*__visibility_control.h.in'):
            text = template.read_text().replace('@PROJECT_NAME_UPPER@', PACKAGE.upper())
            header = out / 'msg' / template.name[:-len('.in')]
            header.write_text(text.replace('@PROJECT_NAME@', PACKAGE))
        path = work / f'{tool}.json'
        path.write_text(json.dumps({
            'package_name': PACKAGE,
            'output_dir': str(out),
            'template_dir': str(templates),
            'idl_tuples': [f'{idl_root}:{idl}'],
            'ros_interface_files': [str(source)],
            'include_paths': [f'{name}:{SHARE / name}' for name in DEPENDENCIES],
            'type_description_tuples': descriptions,
            'target_dependencies': [],
        }))
        return str(path)

    parts = {name: work / name / PACKAGE
             for name in ('c', 'fastrtps', 'introspection', 'dispatch', 'python')}
    generate_type_hash(arguments('rosidl_generator_type_description', idl_root))
    descriptions.append(f'{idl}:{(idl_root / idl).with_suffix(".json")}')
    generate_c(arguments('rosidl_generator_c', parts['c']))
    generate_typesupport_fastrtps_c(arguments(FASTRTPS, parts['fastrtps']))
    generate_introspection(arguments(INTROSPECTION, parts['introspection']))
    generate_dispatch(arguments('rosidl_typesupport_c', parts['dispatch']),
                      [FASTRTPS, INTROSPECTION])
    generate_py(arguments('rosidl_generator_py', parts['python']), ['rosidl_typesupport_c'])
    (parts['python'] / '__init__.py').touch()
    return parts


def compile_sources(parts: dict) -> dict:
    """Compile every C and C++ file of the parts; return {part: object files}."""
    import numpy
    include = PREFIX / 'include'
    folders = [*(folder.parent for folder in parts.values()), include, *include.iterdir(),
               sysconfig.get_paths()['include'], numpy.get_include()]
    flags = ['-O2', '-fPIC', '-w', *(f'-I{folder}' for folder in folders)]

    def compile_one(source: Path) -> str:
        compiler = ['g++', '-std=c++17'] if source.suffix == '.cpp' else ['gcc']
        subprocess.run([*compiler, *flags, '-c', source, '-o', f'{source}.o'], check=True)
        return f'{source}.o'

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {name: list(pool.map(compile_one, sorted(folder.rglob('*.c*'))))
                for name, folder in parts.items()}


def link_libraries(objects: dict, out: Path):
    """Link the libraries and the extension module into `out`."""
    def link(name: str, parts: tuple, own: tuple, kinds: tuple, others: tuple):
        # --no-as-needed: type supports are looked up at run time, no symbol refers to them
        subprocess.run([
            'g++', '-shared', f'-Wl,-soname,{name},--no-as-needed',
            f'-Wl,-rpath,$ORIGIN:{PREFIX}/lib', '-o', out / name,
            *(file for part in parts for file in objects[part]),
            f'-L{out}', f'-L{PREFIX}/lib', *(f'-l:{library}' for library in own),
            *(f'-l{package}__{kind}' for package in DEPENDENCIES for kind in kinds),
            *(f'-l{library}' for library in others),
        ], check=True)

    base = ('rosidl_runtime_c', 'rcutils', ':libfastcdr.so.2', 'rmw')
    core = f'lib{PACKAGE}__rosidl_generator_c.so'
    fastrtps, introspection = (f'lib{PACKAGE}__{kind}.so' for kind in (FASTRTPS, INTROSPECTION))
    link(core, ('c',), (), ('rosidl_generator_c',), base)
    link(fastrtps, ('fastrtps',), (core,), ('rosidl_generator_c', FASTRTPS),
         (FASTRTPS, 'rosidl_typesupport_fastrtps_cpp', *base))
    link(introspection, ('introspection',), (core,), ('rosidl_generator_c', INTROSPECTION),
         (INTROSPECTION, *base))
    link(f'{PACKAGE}_s__rosidl_typesupport_c.so', ('dispatch', 'python'),
         (core, fastrtps, introspection),
         ('rosidl_generator_c', 'rosidl_generator_py', 'rosidl_typesupport_c'),
         ('rosidl_typesupport_c', *base))


def build(destination: Path):
    """Build the package below `destination` (a site-packages folder)."""
    with tempfile.TemporaryDirectory(prefix='.tf2_msgs-', dir=destination) as name:
        work = Path(name)
        finished = work / 'finished'
        finished.mkdir()
        with redirect_stdout(io.StringIO()):        # the generators talk
            parts = generate(work)
        link_libraries(compile_sources(parts), finished)
        for source in parts['python'].rglob('*.py'):
            target = finished / source.relative_to(parts['python'])
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        shutil.rmtree(destination / PACKAGE, ignore_errors=True)
        finished.rename(destination / PACKAGE)


def main() -> int:
    """Build where needed; return the exit code."""
    if is_importable():
        return 0
    try:
        build(Path(sysconfig.get_paths()['platlib']))
    except subprocess.CalledProcessError as error:
        print(f'tf2_msgs: {error.cmd[0]} failed on {error.cmd[-1]}; its messages stand above',
              file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
